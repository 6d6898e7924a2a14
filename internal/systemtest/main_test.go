//go:build systemtest

package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// preparedEnv hands what TestMain prepared to the process inside the namespaces.
const preparedEnv = "TWILL_SYSTEM_TEST"

// prepared is what the machines are made of.
var prepared Prepared

func TestMain(m *testing.M) {
	os.Exit(enterAndRun(m))
}

func enterAndRun(m *testing.M) int {
	if os.Getenv(preparedEnv) == "" {
		if err := Check(); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: no machine can run here:", err)
			return 1
		}
		dir, err := os.MkdirTemp("", "twill-system-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, "FAIL:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		defer RemoveCgroups()
		if err := prepareFor(dir); err != nil {
			fmt.Fprintln(os.Stderr, "FAIL: prepare:", err)
			return 1
		}
	}
	entered, code, err := Enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	if !entered {
		return code
	}
	if err := json.Unmarshal([]byte(os.Getenv(preparedEnv)), &prepared); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return m.Run()
}

// prepareFor prepares before the namespaces are entered, in which there is no way to Debian.
func prepareFor(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := RemoveCgroups(); err != nil {
		return err
	}
	p, err := Prepare(ctx, os.Stdout, filepath.Join("..", ".."), dir, oldVersion, newVersion)
	if err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.Setenv(preparedEnv, string(text))
}
