"""What held a run up: where the workers' time went, seen from the thread that feeds the network.

Reading, the network and tracing run side by side, so that adding up their busy times blames the
wrong one: reading that hides behind the network costs nothing. What counts is how long the network
ran, how long it waited for pixels before, and for tracing after.
"""

from collections.abc import Mapping

READING, NETWORK, TRACING, SHUFFLES = "reading", "network", "tracing", "shuffles and waiting"
NAMES = {
    "Detect.wait_read": READING,
    "Detect.segment": NETWORK,
    "Detect.wait_trace": TRACING,
    "ProfileImages": "looking at images",
    "MergeSeams": "merging seams",
    "FinishFootprints": "finishing",
    "ResolveOverlaps": "resolving overlaps",
    "WriteShards": "writing",
    "PublishDataset": "publishing",
}
"""Words for the parts of `stage_s` that follow one another in a worker."""
ADVICE = {
    READING: "put the images nearer, as COGs with overviews; where cores are idle, raise "
    "engine.read_threads, else run more workers",
    NETWORK: "a GPU, more workers, or a lighter model would help most",
    TRACING: "where cores are idle, raise engine.trace_threads, else run more workers; or take a "
    "higher threshold if the ground is full of crumbs",
    SHUFFLES: "the engine starts, waits or moves data: larger tiles, or fewer and warmer workers",
}


def time_shares(stage_s: Mapping[str, float], work_s: float, num_workers: int) -> dict[str, float]:
    """Shares of the workers' time, the largest first; they add up to 1.

    Args:
        stage_s: seconds by stage, summed over all workers, as in `RunTotals.stage_s`.
        work_s: wall seconds from the first tile to the end of the run.
        num_workers: processes that worked.

    Returns:
        Share by name; `shuffles and waiting` is what no stage accounts for. Empty without times.
    """
    spent = {name: stage_s.get(stage, 0.0) for stage, name in NAMES.items()}
    # Several bundles at once in one process can be busier than the clock.
    total = max(work_s * max(num_workers, 1), sum(spent.values()))
    if total <= 0:
        return {}
    spent[SHUFFLES] = total - sum(spent.values())
    shares = {name: round(seconds / total, 4) for name, seconds in spent.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def bottleneck_sentence(shares: Mapping[str, float]) -> str:
    """What took most of the time, what else did, and what would help; empty without shares."""
    if not shares:
        return ""
    (name, share), *others = sorted(shares.items(), key=lambda item: -item[1])
    more = [f"{other} {part:.0%}" for other, part in others if part >= 0.01]
    rest = f" ({', '.join(more)})" if more else ""
    advice = f": {ADVICE[name]}" if name in ADVICE else ""
    return f"The bottleneck is {name}: {share:.0%} of the workers' time{rest}{advice}."
