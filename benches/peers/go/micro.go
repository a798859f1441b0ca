// What src/micro measures, in Go: the same work, told by the same words, printed in the same form.
//
//	micro MEASURE N OPERATIONS ROUNDS ROUND_NS
//
// GOMAXPROCS is 1: one processor for everybody. Exit status 3 says that there is no such measure.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type plan struct {
	n          int
	operations uint64
	rounds     int
	round      time.Duration
}

type figures map[string]float64

func main() {
	runtime.GOMAXPROCS(1)
	var numbers [4]int64
	for i := range numbers {
		number, err := strconv.ParseInt(os.Args[2+i], 10, 64)
		if err != nil {
			panic(err)
		}
		numbers[i] = number
	}
	p := plan{int(numbers[0]), uint64(numbers[1]), int(numbers[2]), time.Duration(numbers[3])}
	measures := map[string]func(plan) figures{
		"switch": measureSwitch, "spawn": measureSpawn, "idle": measureIdle,
		"timers": measureTimers, "timer_cost": measureTimerCost, "queue": measureQueue,
		"queue_unbounded": measureQueueUnbounded, "map": measureMap,
	}
	measure, known := measures[os.Args[1]]
	if !known {
		os.Exit(3)
	}
	sample := map[string]any{
		"measure": fmt.Sprintf("%s/%d", os.Args[1], p.n), "peer": "go", "figures": measure(p),
	}
	if err := json.NewEncoder(os.Stdout).Encode(sample); err != nil {
		panic(err)
	}
}

// Rounds; see src/micro/laps.rs.

type lap struct {
	wall, cpu  time.Duration
	operations uint64
}

type laps struct {
	plan       plan
	count      *uint64
	each       uint64
	lookAfter  int
	untilLook  int
	started    bool
	warm       bool
	start      time.Time
	startCpu   time.Duration
	startCount uint64
	laps       []lap
}

func newLaps(p plan, of int, each uint64, count *uint64) *laps {
	lookAfter := 4096 / of
	if lookAfter < 1 {
		lookAfter = 1
	}
	if p.rounds == 0 {
		p.rounds = 7
	}
	return &laps{plan: p, count: count, each: each, lookAfter: lookAfter, untilLook: 1}
}

func (l *laps) goOn() bool {
	l.untilLook--
	if l.untilLook == 0 && !l.look() {
		return false
	}
	*l.count += l.each
	return true
}

func (l *laps) look() bool {
	l.untilLook = l.lookAfter
	now := time.Now()
	if l.started {
		wall, operations := now.Sub(l.start), *l.count-l.startCount
		over := wall >= l.plan.round
		if l.plan.operations > 0 {
			over = operations >= l.plan.operations
		}
		if !over {
			return true
		}
		if l.warm {
			l.laps = append(l.laps, lap{wall, cpuTime() - l.startCpu, operations})
		}
		l.warm = true
	}
	l.started, l.startCpu, l.startCount = true, cpuTime(), *l.count
	l.start = time.Now()
	return len(l.laps) < l.plan.rounds
}

func (f figures) withLaps(prefix string, laps *laps) figures {
	each := func(time func(lap) time.Duration) []float64 {
		var each []float64
		for _, lap := range laps.laps {
			each = append(each, float64(time(lap).Nanoseconds())/float64(lap.operations))
		}
		sort.Float64s(each)
		return each
	}
	wall := each(func(l lap) time.Duration { return l.wall })
	cpu := each(func(l lap) time.Duration { return l.cpu })
	f[prefix+"ns"], f[prefix+"ns_min"] = median(wall), wall[0]
	f[prefix+"ns_cpu"], f[prefix+"ns_cpu_min"] = median(cpu), cpu[0]
	f[prefix+"rounds"] = float64(len(laps.laps))
	f[prefix+"operations"] = float64(laps.laps[0].operations)
	return f
}

func median(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func usage() syscall.Rusage {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage
}

func cpuTime() time.Duration {
	usage := usage()
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// What is measured.

func measureSwitch(p plan) figures {
	var yields uint64
	stop, gate := false, make(chan bool)
	for i := 1; i < p.n; i++ {
		go func() {
			<-gate // or each preemption of who starts them would cost a turn of all
			for !stop {
				yields++
				runtime.Gosched()
			}
		}()
	}
	close(gate)
	laps := newLaps(p, p.n, 1, &yields)
	for laps.goOn() {
		runtime.Gosched()
	}
	stop = true
	return figures{}.withLaps("", laps)
}

func measureSpawn(p plan) figures {
	batch := func() {
		var all sync.WaitGroup
		all.Add(p.n)
		for i := 0; i < p.n; i++ {
			go func() { all.Done() }()
		}
		all.Wait()
	}
	start := time.Now()
	batch()
	first := time.Since(start)
	var spawned uint64
	laps := newLaps(p, 4096, uint64(p.n), &spawned)
	for laps.goOn() {
		batch()
	}
	f := figures{"first_ns": float64(first.Nanoseconds()) / float64(p.n)}
	return f.withLaps("", laps)
}

func measureIdle(p plan) figures {
	before := footprint()
	var begun int64
	for i := 0; i < p.n; i++ {
		go func() {
			atomic.AddInt64(&begun, 1)
			time.Sleep(time.Hour)
		}()
	}
	for atomic.LoadInt64(&begun) < int64(p.n) {
		runtime.Gosched()
	}
	after := footprint()
	n := float64(p.n)
	return figures{
		"rss_bytes":        (after["VmRSS:"] - before["VmRSS:"]) / n,
		"page_table_bytes": (after["VmPTE:"] - before["VmPTE:"]) / n,
		"maps":             after["maps"],
	}
}

// Bytes by the names of /proc/self/status, and the number of memory maps.
func footprint() map[string]float64 {
	footprint := map[string]float64{}
	for _, line := range lines("/proc/self/status") {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			value, _ := strconv.ParseFloat(fields[1], 64)
			footprint[fields[0]] = value * 1024
		}
	}
	footprint["maps"] = float64(len(lines("/proc/self/maps")))
	return footprint
}

func lines(path string) []string {
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	var lines []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return lines
}

func measureTimers(p plan) figures {
	if p.rounds == 0 {
		p.rounds = 2
	}
	random := random(5)
	naps := make([]time.Duration, p.n)
	late := make([]int64, p.n)
	for i := range naps {
		naps[i] = time.Duration(random.next() % 1_000_000_000)
		late[i] = -1
	}
	var results []figures
	for round := 0; round < p.rounds; round++ {
		var begun int64
		var allBegun time.Duration
		faults, cpu, start := usage().Minflt, cpuTime(), time.Now()
		var all sync.WaitGroup
		all.Add(p.n)
		for i := 0; i < p.n; i++ {
			go func(i int) {
				if atomic.AddInt64(&begun, 1) == int64(p.n) {
					allBegun = cpuTime()
				}
				deadline := time.Now().Add(naps[i])
				time.Sleep(naps[i])
				late[i] = int64(time.Since(deadline))
				all.Done()
			}(i)
		}
		spawned := cpuTime()
		all.Wait()
		wall, ended, faulted := time.Since(start), cpuTime(), usage().Minflt
		sorted := append([]int64(nil), late...)
		sort.Slice(sorted, func(a, b int) bool { return sorted[a] < sorted[b] })
		sum := 0.0
		for _, late := range sorted {
			sum += float64(late) / 1e6
		}
		results = append(results, figures{
			"wall_over_ms": (wall - time.Second).Seconds() * 1e3,
			"cpu_s":        (ended - cpu).Seconds(),
			"spawn_cpu_s":  (spawned - cpu).Seconds(),
			"begin_cpu_s":  (allBegun - cpu).Seconds(),
			"mean_late_ms": sum / float64(p.n),
			"p99_late_ms":  float64(sorted[p.n*99/100]) / 1e6,
			"max_late_ms":  float64(sorted[p.n-1]) / 1e6,
			"minor_faults": float64(faulted - faults),
		})
	}
	f := figures{}
	for name, value := range results[0] {
		f["fresh_"+name] = value
		var warm []float64
		for _, round := range results[1:] {
			warm = append(warm, round[name])
		}
		sort.Float64s(warm)
		if len(warm) > 0 {
			f["warm_"+name] = median(warm)
		}
	}
	return f
}

// SplitMix64.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9E3779B97F4A7C15
	z := uint64(*r)
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return z ^ (z >> 31)
}

func measureTimerCost(p plan) figures {
	random := random(7)
	far := func() time.Duration {
		return 120*time.Second + time.Duration(random.next()%60_000_000_000)
	}
	var begun int64
	for i := 0; i < p.n; i++ {
		nap := far()
		go func() {
			atomic.AddInt64(&begun, 1)
			time.Sleep(nap)
		}()
	}
	for atomic.LoadInt64(&begun) < int64(p.n) {
		runtime.Gosched()
	}
	var timeouts [1024]time.Duration
	for i := range timeouts {
		timeouts[i] = far()
	}
	at := 0
	withTimeout := func(body func()) {
		at = (at + 1) % len(timeouts)
		_, cancel := context.WithTimeout(context.Background(), timeouts[at])
		body()
		cancel()
	}
	var done uint64
	yields := newLaps(p, 1, 1, &done)
	for yields.goOn() {
		runtime.Gosched()
	}
	ready := newLaps(p, 1, 1, &done)
	for ready.goOn() {
		withTimeout(func() {})
	}
	waiting := newLaps(p, 1, 1, &done)
	for waiting.goOn() {
		withTimeout(runtime.Gosched)
	}
	f := figures{}.withLaps("yield_", yields).withLaps("ready_", ready)
	f = f.withLaps("waiting_", waiting)
	f["ns"] = f["waiting_ns"] - f["yield_ns"]
	return f
}

var sink uint64

func measureQueue(p plan) figures {
	queue, ended := make(chan uint64, 1), make(chan bool)
	go func() {
		for item := range queue {
			sink = item
		}
		ended <- true
	}()
	var items uint64
	laps, item := newLaps(p, 1, 1, &items), uint64(0)
	for laps.goOn() {
		queue <- item
		item++
	}
	close(queue)
	<-ended
	return figures{}.withLaps("", laps)
}

// Go's channels all have a bound; with one that is never reached it is the same work.
func measureQueueUnbounded(p plan) figures {
	there, back, ended := make(chan uint64, 1024), make(chan uint64, 1024), make(chan bool)
	go func() {
		for item := range there {
			back <- item
		}
		ended <- true
	}()
	var items uint64
	laps, item := newLaps(p, 2, 2, &items), uint64(0)
	for laps.goOn() {
		there <- item
		item = <-back + 1
	}
	close(there)
	<-ended
	return figures{}.withLaps("", laps)
}

func measureMap(p plan) figures {
	type result struct{ item, result int }
	jobs, results := make(chan int, 100), make(chan result, 100)
	for i := 0; i < 100; i++ {
		go func() {
			for item := range jobs {
				results <- result{item, item + 1}
			}
		}()
	}
	var mapped uint64
	laps := newLaps(p, 4096, uint64(p.n), &mapped)
	for laps.goOn() {
		go func() {
			for item := 0; item < p.n; item++ {
				jobs <- item
			}
		}()
		all := make([]int, p.n)
		for i := 0; i < p.n; i++ {
			result := <-results
			all[result.item] = result.result
		}
		for i, result := range all {
			if result != i+1 {
				panic("wrong result")
			}
		}
	}
	return figures{}.withLaps("", laps)
}
