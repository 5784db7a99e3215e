"""What pyres's worker does: a job takes some ms and notes its number in the list `done:pyres`."""

import time


class Record:
    ms = 0

    @classmethod
    def perform(cls, number):
        time.sleep(cls.ms / 1000)
        cls.resq.redis.rpush("done:pyres", number)
