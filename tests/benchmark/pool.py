"""A pool of processes that runs in this one."""


class SamePool:
    """A pool of no process."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    Pool = classmethod(lambda cls, *_, **__: cls())
    apply = staticmethod(lambda function, words: function(*words))
