"""List, forget, rename and migrate enrolled voices, and make a key for an encrypted file."""

import argparse
import json
from pathlib import Path

from .options import QDRANT, add_backend, add_key, store_at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="print the names of the voices")
    forget = actions.add_parser("forget", help="remove a voice; no byte of it stays in the file")
    rename = actions.add_parser("rename", help="give a voice another name")
    migrate = actions.add_parser("migrate", help="embed the recordings of all voices anew, with another model")
    actions.add_parser("key", help="print a new key for an encrypted file")
    for action in (listing, forget, rename, migrate):
        action.add_argument("store", help="file of the voices, or qdrant:ADDRESS")
        add_key(action)
    listing.add_argument("--json", action="store_true", help="print JSON")
    forget.add_argument("name", help="name of the speaker")
    rename.add_argument("name", help="name of the speaker")
    rename.add_argument("new_name", help="another name")
    migrate.add_argument("--model", required=True, help="folder or repository of the new verifier")
    migrate.add_argument("--recordings", required=True, metavar="DIR", help="DIR/NAME/* or DIR/NAME.*: recordings")
    add_backend(migrate)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from ..verification.voices import new_key

    if options.action == "key":
        print(new_key())
        return 0
    if not options.store.startswith(QDRANT) and not Path(options.store).is_file():
        raise FileNotFoundError(f"There is no file of voices at '{options.store}': enrol a voice first.")
    store = store_at(options.store, options)
    if options.action == "list":
        voices = list(store.voices().values())
        if options.json:
            facts = [{"name": v.name, "recordings": len(v.facts), "speech": round(v.speech, 2)} for v in voices]
            print(json.dumps(facts))
        else:
            for voice in voices:
                print(f"{voice.name}\t{len(voice.facts)} recordings\t{voice.speech:.1f} s of speech")
    elif options.action == "forget":
        store.forget(options.name)
    elif options.action == "rename":
        store.rename(options.name, options.new_name)
    else:
        from ..verification.migration import migrate_voices

        count = migrate_voices(store, options.model, options.recordings, options.backend)
        print(f"{count} voices were embedded anew.")
    return 0
