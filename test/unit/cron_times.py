"""The next times of APScheduler's CronTrigger: reads a JSON list of questions, writes a JSON list of lists of seconds since 1970."""

import json
import sys
from datetime import datetime, timezone

from apscheduler.triggers.cron import CronTrigger

END = datetime(2100, 1, 1, tzinfo=timezone.utc)


def next_times(fields, zone, after, count):
    trigger = CronTrigger(**fields, timezone=zone, end_date=END)
    now = datetime.fromtimestamp(after, timezone.utc)
    previous = None
    found = []
    while len(found) < count:
        upcoming = trigger.get_next_fire_time(previous, now)
        if upcoming is None:
            break
        found.append(int(upcoming.timestamp()))
        previous = now = upcoming
    return found


def answer(question):
    try:
        return {"times": next_times(question["fields"], question["zone"], question["after"], question["count"])}
    except ValueError as error:
        return {"refused": str(error)}


json.dump([answer(question) for question in json.load(sys.stdin)], sys.stdout)
