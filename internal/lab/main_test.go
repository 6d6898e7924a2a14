package lab

import (
	"fmt"
	"os"
	"os/signal"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// standInEnv makes the test binary act as the program under test.
const standInEnv = "TWILL_LAB_STANDIN"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(nestedEnv) != "":
		os.Exit(nested())
	case os.Getenv(standInEnv) != "":
		os.Exit(standIn(os.Args[1:]))
	default:
		Main(m)
	}
}

// standIn behaves as its first argument says.
func standIn(args []string) int {
	fmt.Println("stand-in starts")
	if fifo := os.Getenv("HOLD"); fifo != "" {
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer f.Close()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	switch args[0] {
	case "run":
		daemon.SdNotify(false, "STATUS=well\nREADY=1")
		<-stop
		daemon.SdNotify(false, "STOPPING=1")
		fmt.Print("stand-in ends")
		return 0
	case "fail":
		fmt.Fprintln(os.Stderr, "nothing works")
		return 3
	case "stubborn":
		daemon.SdNotify(false, "READY=1")
		select {}
	case "environ":
		fmt.Println(os.Environ())
		return 0
	case "print":
		fmt.Println(args[1:])
		return 0
	}
	return 2
}
