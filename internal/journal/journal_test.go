package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHandler(t *testing.T) {
	var out strings.Builder
	log := slog.New(NewHandler(&out, slog.LevelInfo))
	log.Debug("not said")
	log.Info("holds lease", "subnet", "10.5.72.0/24", "node", "a b")
	log.Warn("etcd is away", "err", errors.New("no\nanswer"))
	log.Error("no attributes")
	log.With("device", "twill0").WithGroup("queue").Info("adopted", "time", time.Second, "n", 2)
	want := `<6>holds lease subnet=10.5.72.0/24 node="a b"
<4>etcd is away err="no\nanswer"
<3>no attributes
<6>adopted device=twill0 queue.time=1s queue.n=2
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

// Records of many goroutines do not mix.
func TestHandlerAtOnce(t *testing.T) {
	var out strings.Builder
	log := slog.New(NewHandler(&out, slog.LevelInfo))
	const writers, records = 8, 100
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			own := log.With("key", "value")
			for range records {
				own.Info("message")
			}
		})
	}
	wg.Wait()
	if want := strings.Repeat("<6>message key=value\n", writers*records); out.String() != want {
		t.Error("the lines are mixed")
	}
}

// JOURNAL_STREAM is inherited; what counts is whether standard error still is that file.
func TestIsStderr(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Fstat(int(os.Stderr.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		stream string
		want   bool
	}{
		{"", false},
		{"nonsense", false},
		{fmt.Sprintf("%d:%d", st.Dev, st.Ino), true},
		{fmt.Sprintf("%d:%d", st.Dev, st.Ino+1), false},
	} {
		t.Setenv("JOURNAL_STREAM", tt.stream)
		if got := IsStderr(); got != tt.want {
			t.Errorf("JOURNAL_STREAM=%s: %v, want %v", tt.stream, got, tt.want)
		}
	}
}
