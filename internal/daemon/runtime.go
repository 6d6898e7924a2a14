package daemon

import (
	"os"
	"runtime"
	"runtime/metrics"

	"twill/internal/api"
)

// ownRuntime is what this process holds. A number that cannot be read is -1 or 0.
func ownRuntime() api.Runtime {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return api.Runtime{Schema: api.Schema, Goroutines: runtime.NumGoroutine(), OpenFiles: openFiles(), LiveHeap: live[0].Value.Uint64()}
}

// openFiles counts the process's descriptors without that of the counting.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries) - 1
}
