package subnet

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	shared.close()
	os.Exit(code)
}
