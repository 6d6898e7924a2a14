package embedetcd

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// anyPort listens on loopback, on a port the kernel chooses.
var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func start(t *testing.T, dir string) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := Start(ctx, Config{Dir: dir, Listen: anyPort, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, s *Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestServesAndKeepsDataOverRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	first := start(t, dir)
	if _, err := dial(t, first).Put(short(t), "/k", "v"); err != nil {
		t.Fatal(err)
	}
	first.Close()

	second := start(t, dir)
	if first.Endpoint() == second.Endpoint() {
		t.Logf("the kernel gave %s twice; another address was not tried", second.Endpoint())
	}
	got, err := dial(t, second).Get(short(t), "/k")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Fatalf("after a restart /k is %v, want one value \"v\"", got.Kvs)
	}
}

// A watch is open for ever; etcd alone would wait seconds for it.
func TestCloseIsQuickWithOpenWatch(t *testing.T) {
	s := start(t, t.TempDir())
	events := dial(t, s).Watch(short(t), "/k", clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatalf("watch: got %+v, want it created", r)
	}
	begin := time.Now()
	s.Close()
	if took := time.Since(begin); took >= closeTimeout {
		t.Fatalf("Close took %v, limit %v", took, closeTimeout)
	}
	select {
	case err := <-s.Err():
		t.Fatalf("Err after Close: %v, want nothing", err)
	default:
	}
}

func TestStartErrors(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenAddr := netip.MustParseAddrPort(taken.Addr().String())

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := t.TempDir()
	start(t, used)

	damaged := t.TempDir()
	start(t, damaged).Close()
	if err := os.WriteFile(filepath.Join(damaged, "member", "snap", "db"), bytes.Repeat([]byte("no database "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"address in use", Config{Dir: t.TempDir(), Listen: takenAddr}, []string{takenAddr.String(), "address already in use"}},
		{"directory below a file", Config{Dir: filepath.Join(file, "d"), Listen: anyPort}, []string{file, "not a directory"}},
		{"directory in use", Config{Dir: used, Listen: anyPort}, []string{used, "in use"}},
		{"damaged data", Config{Dir: damaged, Listen: anyPort}, []string{damaged, "invalid database"}},
		{"no directory", Config{Listen: anyPort}, []string{"data directory"}},
		{"no address", Config{Dir: t.TempDir()}, []string{"listen address"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Start(short(t), tt.config)
			if err == nil {
				s.Close()
				t.Fatal("Start succeeded")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
		})
	}
}

func TestStartIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if s, err := Start(ctx, Config{Dir: dir, Listen: anyPort, NoSync: true}); err == nil {
		s.Close()
		t.Fatal("Start succeeded with a cancelled context")
	}
}

func TestQuietInNormalUse(t *testing.T) {
	var logs bytes.Buffer
	s, err := Start(short(t), Config{
		Dir: t.TempDir(), Listen: anyPort, NoSync: true,
		Log: slog.New(slog.NewTextHandler(&logs, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s).Put(short(t), "/k", "v"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if logs.Len() > 0 {
		t.Fatalf("logged without need:\n%s", &logs)
	}
}

// etcd's way to end the process ends the goroutine and becomes the error.
func TestFatalEntryIsReported(t *testing.T) {
	s := start(t, t.TempDir())
	returned := false
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.logs.zap().Fatal("disk is full", zap.String("path", "/data"))
		returned = true
	}()
	<-ended
	if returned {
		t.Error("Fatal returned to its caller")
	}
	select {
	case err := <-s.Err():
		if want := "disk is full, path=/data"; !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	default:
		t.Error("no error was reported")
	}
}
