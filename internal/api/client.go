package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotRunning is returned where no daemon listens on the socket.
var ErrNotRunning = errors.New("no twill daemon runs")

const timeout = 5 * time.Second

// A Refused is the daemon's answer to a question that it understands and does
// not answer: its own words.
type Refused struct{ Text string }

func (e *Refused) Error() string { return e.Text }

// maxRefusal bounds what is read of a refusal, in bytes.
const maxRefusal = 4 << 10

func refusal(path string, resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	words, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	// A daemon of another version does not know the path; its mux says so.
	unknown := resp.StatusCode == http.StatusNotFound && words == "404 page not found"
	if unknown || resp.StatusCode >= http.StatusInternalServerError || words == "" {
		return fmt.Errorf("ask the daemon for %s: %s %s", path, resp.Status, words)
	}
	return &Refused{words}
}

// Get asks the daemon behind socket for path and decodes its answer into out.
func Get(ctx context.Context, socket, path string, out any) error {
	return ask(ctx, http.MethodGet, socket, path, out)
}

// Put has the daemon change what path names and decodes its answer into out.
func Put(ctx context.Context, socket, path string, out any) error {
	return ask(ctx, http.MethodPut, socket, path, out)
}

func ask(ctx context.Context, method, socket, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://twill"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w here: nobody listens on %s", ErrNotRunning, socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: permission denied; run as root or as a member of the socket's group", socket)
	case err != nil:
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(path, resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("the daemon's answer to %s is not understood, as if another version than this program runs; restart it after an upgrade: %w", path, err)
	}
	return nil
}
