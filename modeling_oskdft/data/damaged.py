"""Skip damaged files: count them, warn about each one once, and stop when there are too many."""

import warnings

from ..errors import printable


class _Limit:
    """Warn about a damaged file, or stop where there are more than `most`."""

    def __init__(self, most: int, warning: str, refusal: str) -> None:
        self.most, self.warning, self.refusal = most, warning, refusal

    def _judge(self, count: int, is_new: bool, name: str, error: Exception | str) -> None:
        text = str(error)
        is_named = name in text or printable(name) in text
        reason = printable(text if is_named else f"'{name}': {text}")
        if count > self.most:
            cause = error if isinstance(error, Exception) else None
            raise ValueError(self.refusal.format(most=self.most, reason=reason.rstrip("."))) from cause
        if is_new:
            warnings.warn(f"{self.warning} {reason}", stacklevel=3)


class DamagedFiles(_Limit):
    """Count the damaged files that one process meets, up to a limit.

    Workers that read files hand their errors to the process that counts. A worker that has to decide by itself
    whether to go on needs `DamagedRows`.

    Args:
        most: damaged files that are skipped; one more is an error.
        warning: beginning of the warning about a skipped file, such as "Skipped".
        refusal: sentence of the error beyond the limit. `{most}` in it is the limit, `{reason}` the error of the last
            file with its name, without the full stop.

    Attributes:
        reasons: fault of each damaged file, by its name, in the order in which they were met.
    """

    def __init__(self, most: int, warning: str, refusal: str) -> None:
        super().__init__(most, warning, refusal)
        self.reasons: dict[str, str] = {}

    def skip(self, name: str, error: Exception | str) -> None:
        """Count a damaged file and warn about it, unless it was counted before.

        Args:
            name: name of the file or of the utterance; it is put before an error that does not contain it.
            error: fault of the file.

        Raises:
            ValueError: when more than `most` files are damaged. The file beyond the limit is named by this error and
                not by a warning, because it is not skipped: it ends the work.
        """
        is_new = name not in self.reasons
        self.reasons[name] = str(error)
        self._judge(len(self.reasons), is_new, name, error)


class DamagedRows(_Limit):
    """Count the damaged rows of a data set for all workers of a data loader together, up to a limit.

    Args:
        most, warning, refusal: see `DamagedFiles`.
        rows: number of rows of the data set.

    Attributes:
        marks: (rows,) bool, True for each damaged row; in shared memory, so that the limit counts files, not files a
            worker.
    """

    def __init__(self, most: int, warning: str, refusal: str, rows: int) -> None:
        import torch

        super().__init__(most, warning, refusal)
        self.marks = torch.zeros(rows, dtype=torch.bool).share_memory_()

    def skip(self, row: int, name: str, error: Exception) -> None:
        """Mark a damaged row and warn about it, unless a worker has marked it before.

        Args:
            row: number of the row.
            name: name of its file or utterance; it is put before an error that does not contain it.
            error: fault of the file.

        Raises:
            ValueError: when more than `most` rows are damaged, as in `DamagedFiles.skip`.
        """
        is_new = not self.marks[row]
        self.marks[row] = True
        self._judge(int(self.marks.sum()), is_new, name, error)
