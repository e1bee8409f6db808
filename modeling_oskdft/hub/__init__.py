"""On the Hub: what is sent there, and the card that says what it is."""
