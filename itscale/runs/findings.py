"""What a run shows, in a few sentences, with the intervals that they rest on."""

from __future__ import annotations

from collections.abc import Sequence

from itscale.runs.comparison import Board, Series, paired
from itscale.runs.composed import composition_findings
from itscale.runs.record import RunRecord
from itscale.runs.table import interval_text, number


def findings(board: Board) -> list[str]:
    """Return the sentences that open a report."""
    best, said = board.best, []
    if best is None:
        return composition_findings(board) or ["No cell has a reward to report."]
    top = best.dearest
    mean = top.interval("reward")
    at = board.decimals["reward"]
    text = f"{best.name} reached the highest reward: {number(mean.mean, at)}"
    text += f" (95 % {interval_text(mean, at)})" if mean.has_width else ""
    if board.baseline is not None and best.is_steered:
        text += f", against {number(board.baseline.dearest.row['reward'], at)} for an unguided sample"
    said.append(f"{text}, at {top.nfe:,} network evaluations per group.")
    if board.rival is not None and board.rival is not best:
        said.extend(_against(best, board.rival))
    if board.has_held_out:
        said.append(_held_out(board, best))
    return said


def unfinished(records: Sequence[RunRecord]) -> list[str]:
    """Return a warning for every run that is not finished."""
    return [
        f"Unfinished: {len(run.rows)} of {run.cells} cells of {run.folder.name} are done."
        for run in records
        if len(run.rows) < run.cells
    ]


def _against(best: Series, rival: Series) -> list[str]:
    done = paired(best.dearest, rival.dearest, "reward")
    if done is None:
        return []
    gap = done.difference
    width = f" (95 % {interval_text(gap)})" if gap.has_width else ""
    is_clear = gap.has_width and gap.low > 0
    verdict = "" if is_clear else ", which these groups cannot tell from no difference"
    return [
        f"Group by group that is {number(gap.mean)}{width} more than {rival.name} at "
        f"{rival.dearest.nfe:,} NFE, with the higher reward in {done.wins:g} of {gap.groups} groups{verdict}."
    ]


def _held_out(board: Board, best: Series) -> str:
    fell = [s.name for s in board.steered if board.held_out_fell(s.dearest)]
    if fell:
        return (
            f"Mind the gap: for {', '.join(fell)} the held-out reward fell below unguided samples while the "
            "steered one rose. The method is exploiting the reward."
        )
    at = board.decimals["held_out"]
    value = number(best.dearest.row["held_out"], at)
    if board.baseline is None or not best.is_steered:
        return f"The held-out reward of its samples is {value}."
    base = number(board.baseline.dearest.row["held_out"], at)
    change = paired(best.dearest, board.baseline.dearest, "held_out")
    is_higher = change is not None and change.difference.mean >= 0
    verdict = "it did not fall" if is_higher else "no clear fall"
    return f"The held-out reward, which steered nothing, is {value} there and {base} unguided: {verdict}."
