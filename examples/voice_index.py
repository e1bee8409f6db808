"""Measure how many of the nearest voices an approximate index finds, and its time, among 1,000 to 100,000 voices.

The index is Qdrant's own engine, run inside of this process: what a server of Qdrant runs, without the network. It
has the graph of `QdrantVoices`, and gives 300 candidates, which are scored exactly. Beside it stand the engine's
default graph, and the exact search of a file of voices. The voices are made up: directions of 192 dimensions whose
spread falls from the first to the last, and recordings whose cosine with their own voice is about 0.6.

    pip install qdrant-edge-py
    python -m examples.voice_index
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeling_oskdft.errors import one_sentence_errors
from modeling_oskdft.files import whole_file, write_json
from modeling_oskdft.provenance import machine, measured_on, versions
from modeling_oskdft.verification.qdrant_voices import BUILDING, CANDIDATES, EDGES, SEARCHING

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SIZES = (1_000, 10_000, 100_000)
DIMENSIONS, QUERIES, NEAREST, SEED = 192, 200, 10, 0
COSINE = 0.6  # of a recording with its own voice
GRAPHS = {"ours": (EDGES, BUILDING, SEARCHING), "Qdrant's default": (16, 100, CANDIDATES)}
MOST_BY_DEFAULT = 100_000  # voices among which the default graph is measured too
AT_ONCE = 5000  # voices that are handed over together
Floats = NDArray[np.float32]


def population(voices: int, seed: int = SEED) -> tuple[Floats, Floats]:
    """Make up voices, and recordings of some of them.

    Args:
        voices: number of voices.
        seed: of the draws.

    Returns:
        (voices, 192) and (200, 192), unit length.
    """
    generator = np.random.default_rng(seed)
    spread = (1 / np.sqrt(1 + np.arange(DIMENSIONS) / 20)).astype(np.float32)

    def directions(count: int) -> Floats:
        rows = generator.standard_normal((count, DIMENSIONS), np.float32) * spread
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    known = directions(voices)
    of_voice = known[generator.integers(voices, size=QUERIES)]
    others = directions(QUERIES)
    heard = COSINE * of_voice + np.sqrt(1 - COSINE**2) * others
    return known, heard / np.linalg.norm(heard, axis=1, keepdims=True)


def recall_at(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """Return the share of the exact nearest voices that were found.

    Args:
        found: numbers of the voices by query.
        exact: numbers of the nearest voices by query.
    """
    return float(np.mean([len(set(one) & set(right)) / len(right) for one, right in zip(found, exact, strict=True)]))


def measure(voices: int, folder: Path) -> list[dict[str, Any]]:
    """Measure one population.

    Args:
        voices: number of voices.
        folder: for the indices.

    Returns:
        For each graph: recall and milliseconds, beside those of the exact search, and the seconds to build it.
    """
    known, heard = population(voices)

    def exactly(query: Floats) -> list[int]:
        return _nearest(known, np.arange(voices), query)

    right, milliseconds_exact = _timed(exactly, heard)
    rows = []
    for graph, settings in GRAPHS.items():
        if graph != "ours" and voices > MOST_BY_DEFAULT:
            continue
        start = time.perf_counter()
        search = _index_of(known, folder / graph, *settings)
        building = time.perf_counter() - start
        found, milliseconds = _timed(partial(_found_by, search, known), heard)
        rows.append(
            {
                "voices": voices,
                "graph": graph,
                "recall@10": recall_at(found, right),
                "milliseconds": milliseconds,
                "milliseconds, exact": milliseconds_exact,
                "seconds to build": building,
            }
        )
    return rows


def _found_by(search: Callable[[Floats], NDArray[np.int64]], known: Floats, query: Floats) -> list[int]:
    return _nearest(known, search(query), query)


def _nearest(known: Floats, candidates: NDArray[np.int64], query: Floats) -> list[int]:
    """Score candidates exactly, and return the numbers of the nearest ones."""
    scores = (known if len(candidates) == len(known) else known[candidates]) @ query
    nearest = np.argpartition(-scores, NEAREST)[:NEAREST]
    return [int(number) for number in candidates[nearest[np.argsort(-scores[nearest], kind="stable")]]]


def _timed(search: Callable[[Floats], list[int]], heard: Floats) -> tuple[list[list[int]], float]:
    found, seconds = [], []
    for query in heard:
        start = time.perf_counter()
        found.append(search(query))
        seconds.append(time.perf_counter() - start)
    return found, 1000 * statistics.median(seconds)


def _index_of(
    known: Floats, folder: Path, edges: int, building: int, searching: int
) -> Callable[[Floats], NDArray[np.int64]]:
    """Build the index of Qdrant's engine; returns the search for candidates."""
    try:
        import qdrant_edge as engine
    except ImportError:
        raise ImportError("qdrant-edge-py is not installed, and is measured: pip install qdrant-edge-py.") from None
    graph = engine.HnswIndexConfig(
        edges, building, 10_000
    )  # 10,000 kB: below, all are read, as by the server's default
    vectors = engine.EdgeVectorParams(size=DIMENSIONS, distance=engine.Distance.Dot)
    shard = engine.EdgeShard.create(str(folder), engine.EdgeConfig(vectors=vectors, hnsw_config=graph))
    for first in range(0, len(known), AT_ONCE):
        rows = known[first : first + AT_ONCE]
        points = [engine.Point(first + number, row.tolist()) for number, row in enumerate(rows)]
        shard.update(engine.UpdateOperation.upsert_points(points))
    shard.optimize()
    settings = engine.SearchParams(hnsw_ef=searching)

    def search(query: Floats) -> NDArray[np.int64]:
        asked = engine.QueryRequest(limit=CANDIDATES, query=engine.Query.Nearest(query.tolist()), params=settings)
        return np.asarray([int(point.id) for point in shard.query(asked)])

    return search


def page(results: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    lines = [
        "# Recall and time of an index of voices",
        "",
        f"By `python -m examples.voice_index`, seed {results['seed']}, {QUERIES} recordings of voices among them. "
        f"Qdrant's engine ({results['engine']}) in this process gives {CANDIDATES} candidates, which are scored "
        f"exactly. Ours: the graph of `QdrantVoices`, with {EDGES} edges; {BUILDING} voices are considered in "
        f"building it and {SEARCHING} in a search. Exact: the search of a file of voices. The voices are made up.",
        "",
        "| voices | graph | recall@10 | ms | ms, exact | seconds to build |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results["rows"]:
        times = (f"{row[name]:.2f}" for name in ("milliseconds", "milliseconds, exact"))
        cells = [
            f"{row['voices']:,}",
            row["graph"],
            f"{row['recall@10']:.4f}",
            *times,
            f"{row['seconds to build']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    last = results["rows"][-1]
    factor = 10_000_000 / last["voices"]
    lines += [
        "",
        "By arithmetic, for 10,000,000 voices: exact search reads every voice, some "
        f"{last['milliseconds, exact'] * factor:,.0f} ms and {10_000_000 * DIMENSIONS * 4 / 1e9:.1f} GB. The graph "
        f"takes as many GB and {10_000_000 * EDGES * 2 * 4 / 1e9:.1f} for its edges, and some "
        f"{last['seconds to build'] * factor / 3600:.1f} hours to build on a machine like this one; the time of a "
        "search grows with the logarithm.",
        "",
        measured_on(results, ("numpy",)),
        "",
    ]
    return "\n".join(lines)


@one_sentence_errors
def main(arguments: list[str] | None = None) -> int:
    """Measure all sizes, and write the results and their page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of voices; 1,000,000 take most of an hour"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for voice_index.json and its page")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for voices in options.sizes:
        print(f"{voices:,} voices …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(voices, Path(folder))
    results = {
        "name": "voice_index",
        "seed": SEED,
        "engine": f"qdrant-edge-py {version('qdrant-edge-py')}",
        "rows": rows,
        "machine": machine(),
        "versions": versions(),
    }
    write_json(results, options.out / "voice_index.json")
    with whole_file(options.out / "voice_index.md") as file:
        file.write_text(page(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
