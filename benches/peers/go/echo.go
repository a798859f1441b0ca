// Echo by Go: a goroutine a connection, one thread for all of them (GOMAXPROCS=1).
//
// The protocol and the options are those of `peers serve`; see ../src/serve. Go's connections
// cannot be waited for without a buffer, so --mode=idle is echo.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

func main() {
	port := flag.Int("port", 0, "where to listen, on 127.0.0.1; 0: the system picks one")
	cpu := flag.Int("cpu", -1, "the core to stay on; -1: any")
	buffer := flag.Int("buffer", 0, "bytes of each connection's buffer; 0: 16384")
	mode := flag.String("mode", "echo", "echo, sink or idle")
	flag.Parse()
	if *buffer <= 0 {
		*buffer = 16384
	}
	handle := echo
	switch *mode {
	case "echo", "idle":
	case "sink":
		handle = sink
	default:
		fail(fmt.Errorf("there is no mode %q", *mode))
	}
	runtime.GOMAXPROCS(1)
	if *cpu >= 0 {
		fail(pin(*cpu))
	}
	fail(raiseLimitOfDescriptors())
	// The backlog is the system's somaxconn, 4096 on Linux; TCP_NODELAY is what Go sets by itself.
	listener, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(*port))
	fail(err)
	go endWithStdin()
	fmt.Println("listening", listener.Addr())
	for {
		connection, err := listener.Accept()
		fail(err)
		go handle(connection, *buffer)
	}
}

func echo(connection net.Conn, size int) {
	defer connection.Close()
	buffer := make([]byte, size)
	for {
		count, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if _, err := connection.Write(buffer[:count]); err != nil {
			return
		}
	}
}

func sink(connection net.Conn, size int) {
	defer connection.Close()
	buffer := make([]byte, size)
	var total uint64
	for {
		count, err := connection.Read(buffer)
		total += uint64(count)
		if err == io.EOF {
			binary.Write(connection, binary.LittleEndian, total)
		}
		if err != nil {
			return
		}
	}
}

// Ends the process by an ordinary exit when standard input does, or by SIGTERM or SIGINT.
func endWithStdin() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		os.Exit(0)
	}()
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Ties all threads there are to one core; those to come inherit it.
func pin(cpu int) error {
	var set [16]uint64
	set[cpu/64] |= 1 << (cpu % 64)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY,
			uintptr(id), unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
		if errno != 0 && errno != syscall.ESRCH {
			return fmt.Errorf("cannot run on core %d: %w", cpu, errno)
		}
	}
	return nil
}

func raiseLimitOfDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo.go:", err)
		os.Exit(1)
	}
}
