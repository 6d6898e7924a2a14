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
	lab.Main(m)
}

// twillPath is where the program under test is built: below the lab's private
// /run, so that it goes with the lab.
const twillPath = "/run/twill-under-test"

// buildTwill builds the program under test once, with the race detector if the
// tests have it.
var buildTwill = sync.OnceValue(func() error {
	args := []string{"build", "-o", twillPath}
	if raceEnabled() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "twill")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build twill: %w\n%s", err, out)
	}
	return nil
})

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
