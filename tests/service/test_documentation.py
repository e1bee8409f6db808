from modeling_oskdft.service.documentation import page


def test_the_page_describes_every_route_and_fetches_nothing(client_of):
    client = client_of()
    text = client.get("/docs").text
    schema = client.get("/openapi.json").json()
    assert all(f" {path}<" in text for path in schema["paths"]) and text == page(schema, "tiny")
    assert "<script" not in text and 'src="' not in text and "https://" not in text
