package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func TestCredentialsAllowed(t *testing.T) {
	const self, group = 990, 980
	for _, tt := range []struct {
		name string
		c    credentials
		want bool
	}{
		{"root", credentials{uid: 0, groups: []uint32{0}}, true},
		{"the daemon's user", credentials{uid: self, groups: []uint32{1}}, true},
		{"a member of the group", credentials{uid: 1000, groups: []uint32{4, group, 1000}}, true},
		{"another", credentials{uid: 1000, groups: []uint32{4, 1000}}, false},
		{"nobody", credentials{uid: 65534, groups: []uint32{65534}}, false},
		{"root, whose credentials could not be read", credentials{err: os.ErrInvalid}, false},
	} {
		if got := tt.c.allowed(self, group); got != tt.want {
			t.Errorf("%s: allowed %v, want %v", tt.name, got, tt.want)
		}
	}
}

// The socket answers its own user, and has the mode that it should.
func TestControlSocketAsksWho(t *testing.T) {
	path := filepath.Join(t.TempDir(), "twill.sock")
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	c, err := listenControl(path, hello, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket: %v, %v; want 0660", info.Mode(), err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	response, err := client.Get("http://twill/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK || string(body) != "hello" {
		t.Errorf("%s: %s", response.Status, body)
	}

	// A connection of which nothing is known is refused.
	handler, err := onlyAllowed(path, hello)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	l, err := net.Listen("unix", path+"2")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	path += "2"
	client.CloseIdleConnections()
	if response, err = client.Get("http://twill/"); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("%s, want 403", response.Status)
	}
}
