"""What src/micro measures, with gevent: the same work, told by the same words, printed in the same form.

    micro.py MEASURE N OPERATIONS ROUNDS ROUND_NS

Exit status 3 says that there is no such measure.
"""

import json
import os
import resource
import statistics
import sys
import time

import gevent
import gevent.pool
import gevent.queue
from gevent import Timeout, sleep, spawn


class Laps:
    """Rounds; see src/micro/laps.rs. One operation takes a microsecond: looks at the clock more often."""

    def __init__(self, of, each=1):
        self.each = each
        self.look_after = max(256 // of, 1)
        self.until_look = 1
        self.count = 0
        self.start = None
        self.warm = False
        self.laps = []

    def go_on(self):
        self.until_look -= 1
        if self.until_look == 0 and not self.look():
            return False
        self.count += self.each
        return True

    def look(self):
        self.until_look = self.look_after
        now = time.perf_counter_ns()
        if self.start:
            start, cpu, before = self.start
            wall, operations = now - start, self.count - before
            over = operations >= OPERATIONS if OPERATIONS else wall >= ROUND
            if not over:
                return True
            if self.warm:
                self.laps.append((wall / operations, (time.process_time_ns() - cpu) / operations, operations))
            self.warm = True
        cpu = time.process_time_ns()
        self.start = time.perf_counter_ns(), cpu, self.count
        return len(self.laps) < (ROUNDS or 7)

    def figures(self, prefix=""):
        wall, cpu, operations = zip(*self.laps)
        figures = {
            "ns": statistics.median(wall),
            "ns_min": min(wall),
            "ns_cpu": statistics.median(cpu),
            "ns_cpu_min": min(cpu),
            "rounds": len(wall),
            "operations": operations[0],
        }
        return {prefix + name: value for name, value in figures.items()}


def measure_switch(n):
    laps = Laps(of=n)
    stop = False

    def other():
        while not stop:
            laps.count += 1
            sleep(0)

    def main():
        nonlocal stop
        while laps.go_on():
            sleep(0)
        stop = True

    for _ in range(n - 1):
        spawn(other)
    spawn(main).join()
    return laps.figures()


def nothing():
    pass


def measure_spawn(n):
    def batch():
        gevent.joinall([spawn(nothing) for _ in range(n)])

    start = time.perf_counter_ns()
    batch()
    first = time.perf_counter_ns() - start
    laps = Laps(of=4096, each=n)
    while laps.go_on():
        batch()
    return laps.figures() | {"first_ns": first / n}


def measure_idle(n):
    begun = 0

    def sleeper():
        nonlocal begun
        begun += 1
        sleep(3600)

    before = footprint()
    for _ in range(n):
        spawn(sleeper)
    while begun < n:
        sleep(0)
    after = footprint()
    return {
        "rss_bytes": (after["VmRSS:"] - before["VmRSS:"]) / n,
        "page_table_bytes": (after["VmPTE:"] - before["VmPTE:"]) / n,
        "maps": after["maps"],
    }


def footprint():
    """Bytes by the names of /proc/self/status, and the number of memory maps."""
    with open("/proc/self/status") as status:
        fields = [line.split() for line in status]
    sizes = {field[0]: int(field[1]) * 1024 for field in fields if field[-1] == "kB"}
    with open("/proc/self/maps") as maps:
        return sizes | {"maps": sum(1 for _ in maps)}


def random(state):
    """SplitMix64."""
    mask = (1 << 64) - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        yield z ^ (z >> 31)


def measure_timers(n):
    numbers = random(5)
    naps = [next(numbers) % 1_000_000_000 / 1e9 for _ in range(n)]
    late = [0.0] * n
    results = []
    for _ in range(ROUNDS or 2):
        begun, all_begun = 0, 0

        def sleeper(i):
            nonlocal begun, all_begun
            begun += 1
            if begun == n:
                all_begun = time.process_time()
            deadline = time.perf_counter() + naps[i]
            sleep(naps[i])
            late[i] = (time.perf_counter() - deadline) * 1e3

        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        cpu, start = time.process_time(), time.perf_counter()
        sleepers = [spawn(sleeper, i) for i in range(n)]
        spawned = time.process_time()
        gevent.joinall(sleepers)
        del sleepers
        wall, ended = time.perf_counter() - start, time.process_time()
        late_sorted = sorted(late)
        results.append({
            "wall_over_ms": (wall - 1) * 1e3,
            "cpu_s": ended - cpu,
            "spawn_cpu_s": spawned - cpu,
            "begin_cpu_s": all_begun - cpu,
            "mean_late_ms": sum(late) / n,
            "p99_late_ms": late_sorted[n * 99 // 100],
            "max_late_ms": late_sorted[-1],
            "minor_faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults,
        })
    fresh, warm = results[0], results[1:]
    figures = {"fresh_" + name: value for name, value in fresh.items()}
    if warm:
        figures |= {"warm_" + name: statistics.median(round[name] for round in warm) for name in fresh}
    return figures


def measure_timer_cost(n):
    begun = 0

    def sleeper(nap):
        nonlocal begun
        begun += 1
        sleep(nap)

    numbers = random(7)
    far = lambda: 120 + next(numbers) % 60_000_000_000 / 1e9
    for _ in range(n):
        spawn(sleeper, far())
    while begun < n:
        sleep(0)
    timeouts = [far() for _ in range(1024)]

    def main():
        yields = Laps(of=1)
        while yields.go_on():
            sleep(0)
        ready, at = Laps(of=1), 0
        while ready.go_on():
            at = (at + 1) % 1024
            with Timeout(timeouts[at]):
                pass
        waiting = Laps(of=1)
        while waiting.go_on():
            at = (at + 1) % 1024
            with Timeout(timeouts[at]):
                sleep(0)
        return yields.figures("yield_") | ready.figures("ready_") | waiting.figures("waiting_")

    figures = spawn(main).get()
    return figures | {"ns": figures["waiting_ns"] - figures["yield_ns"]}


def measure_queue(n):
    queue = gevent.queue.Queue(1)

    def getter():
        while queue.get() is not None:
            pass

    def main():
        other = spawn(getter)
        laps, item = Laps(of=1), 0
        while laps.go_on():
            queue.put(item)
            item += 1
        queue.put(None)
        other.join()
        return laps.figures()

    return spawn(main).get()


def measure_queue_unbounded(n):
    there, back = gevent.queue.Queue(), gevent.queue.Queue()

    def putter_back():
        while (item := there.get()) is not None:
            back.put(item)

    def main():
        other = spawn(putter_back)
        laps, item = Laps(of=2, each=2), 0
        while laps.go_on():
            there.put(item)
            item = back.get() + 1
        there.put(None)
        other.join()
        return laps.figures()

    return spawn(main).get()


def tiny(item):
    return item + 1


def measure_map(n):
    def main():
        pool = gevent.pool.Pool(100)
        laps = Laps(of=4096, each=n)
        while laps.go_on():
            results = pool.map(tiny, range(n))
            assert results == list(range(1, n + 1))
        return laps.figures()

    return spawn(main).get()


MEASURES = {
    "switch": measure_switch,
    "spawn": measure_spawn,
    "idle": measure_idle,
    "timers": measure_timers,
    "timer_cost": measure_timer_cost,
    "queue": measure_queue,
    "queue_unbounded": measure_queue_unbounded,
    "map": measure_map,
}

name = sys.argv[1]
N, OPERATIONS, ROUNDS, ROUND = map(int, sys.argv[2:])
if name not in MEASURES:
    sys.exit(3)
figures = MEASURES[name](N)
print(json.dumps({"measure": f"{name}/{N}", "peer": "gevent", "figures": figures}), flush=True)
os._exit(0)  # takes nothing apart: that takes seconds with many greenlets
