package main

import (
	"os"
	"testing"

	"twill/internal/lab"
)

// asTwill in the environment makes the test binary act as twill itself, so that
// the tests run the real program, race detector included.
const asTwill = "TEST_BINARY_IS_TWILL"

func TestMain(m *testing.M) {
	if os.Getenv(asTwill) != "" {
		settingsFiles = nil // of a twill that is installed on the test's machine
		main()
	}
	lab.Main(m)
}
