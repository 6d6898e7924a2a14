package subnet

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// connection is the client of etcd that RPCs use now. It is made by the first
// of them, and anew once a file that it was made from has changed: the CA, the
// client certificate and its key, the password.
type connection struct {
	config EtcdConfig
	life   context.Context // ends every RPC
	log    *slog.Logger
	// Observe, if set, is told of each RPC: the method as "Range", how it ended as
	// a gRPC code, how long it took. Set it before the first one.
	Observe func(method, code string, took time.Duration)

	// broke signals that a connection to etcd has broken: what answers next may be
	// another etcd, and a watch goes on as if nothing had happened.
	broke chan struct{}

	mu     sync.Mutex
	client *clientv3.Client
	files  stamps    // that client was made from
	looked time.Time // at the files
	failed string    // why they could not be used, as said
}

// lookEvery bounds how often the files are looked at.
const lookEvery = time.Second

// connect returns the client to use; ctx is only for the making of one. New
// files that cannot be used, as in the middle of a rotation, leave the old
// client in use.
func (c *connection) connect(ctx context.Context) (*clientv3.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && time.Since(c.looked) < lookEvery {
		return c.client, nil
	}
	c.looked = time.Now()
	files := c.config.stamps()
	if c.client != nil && files == c.files {
		return c.client, nil
	}
	client, err := c.open(ctx)
	switch {
	case err == nil && c.client != nil:
		c.log.Info("credentials for etcd have changed; connected with the new ones")
		c.client.Close()
	case err != nil && c.client != nil:
		if cause := explain(err); cause != c.failed {
			c.log.Warn("the changed credentials for etcd cannot be used; going on with the former ones", "err", cause)
			c.failed = cause
		}
		return c.client, nil
	case err != nil:
		return nil, err
	}
	c.client, c.files, c.failed = client, files, ""
	return client, nil
}

// open makes a client that outlives ctx, unless ctx ends first.
func (c *connection) open(ctx context.Context) (*clientv3.Client, error) {
	life, end := context.WithCancel(c.life)
	stop := context.AfterFunc(ctx, end)
	client, err := c.config.client(life, c.observed)
	switch {
	case err != nil:
		end()
		return nil, err
	case !stop():
		client.Close()
		return nil, ctx.Err()
	}
	go c.observeBreaks(client)
	return client, nil
}

// observeBreaks runs until the client is closed.
func (c *connection) observeBreaks(client *clientv3.Client) {
	conn := client.ActiveConnection()
	for state := conn.GetState(); conn.WaitForStateChange(client.Ctx(), state); state = conn.GetState() {
		if state == connectivity.Ready {
			select {
			case c.broke <- struct{}{}:
			default:
			}
		}
	}
}

// forgetBreak is for who reads everything anew.
func (c *connection) forgetBreak() {
	select {
	case <-c.broke:
	default:
	}
}

func (c *connection) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return nil
	}
	return c.client.Close()
}

// stamps tell whether one of the files of an EtcdConfig is another than before.
type stamps [4]stamp

// stamp is that of a file; the zero stamp: there is none. A rename over it, as
// in a Kubernetes secret, gives another inode.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

func (c EtcdConfig) stamps() (s stamps) {
	for i, path := range []string{c.CAFile, c.CertFile, c.KeyFile, c.PasswordFile} {
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{modified: info.ModTime(), size: info.Size(), inode: info.Sys().(*syscall.Stat_t).Ino}
		}
	}
	return s
}

// password is the one to log in with now.
func (c EtcdConfig) password() (Secret, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	raw, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("etcd-password-file: %w", err)
	}
	password, _, _ := strings.Cut(string(raw), "\n")
	password = strings.TrimSuffix(password, "\r")
	if password == "" {
		return "", fmt.Errorf("etcd-password-file: the first line of %s is empty", c.PasswordFile)
	}
	return Secret(password), nil
}
