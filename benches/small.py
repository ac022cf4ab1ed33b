"""The small figures: how soon the first event is out, and what an idle process holds."""

import statistics
import subprocess
import time

from kit import Rowtide, connector, cpu_seconds, lsn, memory_mb, say, tool

STARTS = 20


def newest_timestamp(kafka, topic, offset):
    """When the broker appended the record at that offset, in seconds since 1970."""
    answer = subprocess.run(
        [tool("kcat"), "-b", kafka.brokers, "-C", "-q", "-t", topic, "-p", "0", "-o", str(offset),
         "-c", "1", "-f", "%T"],
        stdout=subprocess.PIPE, text=True, check=True,
    )
    return int(answer.stdout) / 1000


def _connector(bench, name):
    """A connector into Kafka over a small table; its slot, position and topic are there."""
    bench.psql.run(f"create table {name} (id bigserial primary key, note text);"
                   f"create publication {name} for table {name};")
    sink = {"type": "kafka", "brokers": bench.kafka.brokers, "headers": "none",
            "topics": {"config": {"message.timestamp.type": "LogAppendTime"}}}
    rowtide = Rowtide(bench.folder / name, name, connector(
        bench.server.url_by("tcp"), name, name, [f"public.{name}"], sink,
    ))
    rowtide.start()
    while rowtide.saved() is None:
        if not rowtide.is_running():
            raise RuntimeError(rowtide.tail())
        time.sleep(0.05)
    _change(bench, name, rowtide)
    return rowtide


def _change(bench, name, rowtide=None, rows=1):
    """Writes rows; gives an LSN that a position is past once they are delivered."""
    bench.psql.run(f"insert into {name} (note) select 'x' from generate_series(1, {rows});")
    end = lsn(bench.psql.one("select pg_current_wal_insert_lsn()"))
    if rowtide:
        rowtide.wait_saved(end, 30)
    return end


def cold_start(bench):
    """From the start of the process, with a change waiting, to that change acknowledged by Kafka.

    Two clocks: the broker's append time of the record (whole milliseconds, one is added), and the
    save of the position, which rowtide does only once the acknowledgement is there.
    """
    name = "cold_start"
    rowtide = _connector(bench, name)
    rowtide.stop()
    topic = f"{name}.public.{name}"
    appended, saved = [], []
    for _ in range(STARTS):
        offset = bench.kafka.end_offset(topic)
        before = rowtide.saved()
        _change(bench, name)
        # The server must see that the last connection is gone.
        bench.wait_free(name)
        began = time.time()
        rowtide.start()
        at_save = rowtide.wait_moved(before, 30)
        rowtide.stop()
        appended.append(newest_timestamp(bench.kafka, topic, offset) + 0.001 - began)
        saved.append(at_save - began)
    line = {
        "bench": "pg", "workload": "cold_start", "sink": "kafka", "headers": "none",
        "starts": STARTS,
        "ms_median": round(statistics.median(appended) * 1000, 1),
        "ms_p90": round(sorted(appended)[int(STARTS * 0.9) - 1] * 1000, 1),
        "ms_max": round(max(appended) * 1000, 1),
        "saved_ms_median": round(statistics.median(saved) * 1000, 1),
        "saved_ms_p90": round(sorted(saved)[int(STARTS * 0.9) - 1] * 1000, 1),
    }
    say(f"cold start: {line['ms_median']} ms to the broker's log (p90 {line['ms_p90']}), "
        f"{line['saved_ms_median']} ms to the saved position")
    return line


def idle(bench, seconds):
    """A connector into Kafka that has delivered a thousand changes and then has nothing to do."""
    rowtide = _connector(bench, "idle")
    _change(bench, "idle", rowtide, rows=1000)
    before = cpu_seconds(rowtide.pid)
    time.sleep(seconds)
    line = {
        "bench": "pg", "workload": "idle", "sink": "kafka", "headers": "none", "seconds": seconds,
        "rss_mb": round(memory_mb(rowtide.pid, "VmRSS"), 1),
        "pss_mb": round(memory_mb(rowtide.pid, "Pss"), 1),
        "peak_rss_mb": round(memory_mb(rowtide.pid, "VmHWM"), 1),
        "cpu_ms_per_minute": round((cpu_seconds(rowtide.pid) - before) * 60_000 / seconds),
    }
    rowtide.stop()
    say(f"idle: {line['rss_mb']} MB resident, {line['cpu_ms_per_minute']} ms of CPU a minute")
    return line
