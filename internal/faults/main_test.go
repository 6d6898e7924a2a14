package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"twill/internal/lab"
)

var (
	applyAll = flag.Bool("all", false, "apply every fault, not only the quick ones")
	holdFor  = flag.Duration("hold", 3*time.Second, "how long each fault lasts")
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == memberCommand {
		if err := runMember(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lab.Main(suite{m})
}

// suite is all tests, and the table of their results at the end.
type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	printResults()
	return code
}

// builtTwill is the program under test as users have it.
var builtTwill = sync.OnceValues(func() (path string, err error) { return build("/run/twill-under-test") })

// build builds twill at path, with the race detector if the tests have it. What
// is below the lab's private /run goes with the lab.
func build(path string, flags ...string) (string, error) {
	args := append([]string{"build", "-o", path}, flags...)
	if raceEnabled() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "twill")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build twill: %w\n%s", err, out)
	}
	return path, nil
}

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
