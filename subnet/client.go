package subnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
)

// EtcdConfig says where etcd is and how to log in to it.
type EtcdConfig struct {
	Endpoints []string // URLs, http or https
	Prefix    string   // of every key, without a trailing slash
	CAFile    string   // PEM; alone it is enough for TLS
	CertFile  string   // PEM, client certificate; goes with KeyFile
	KeyFile   string   // PEM
	Username  string
	Password  Secret
	// PasswordFile holds the password in its first line, instead of Password.
	// Like the files above it is read again when it changes.
	PasswordFile string
}

// Validate reports the first field that cannot be used.
func (c EtcdConfig) Validate() error {
	if len(c.Endpoints) == 0 {
		return errors.New("etcd-endpoints is empty; want one or more URLs, as http://127.0.0.1:2379")
	}
	for _, e := range c.Endpoints {
		if strings.Contains(e, "@") { // a login would stand in every log line about etcd, and in the next one
			return errors.New("etcd-endpoints: a URL holds a login; use etcd-username and etcd-password")
		}
		u, err := url.Parse(e)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("etcd-endpoints: %q is not a URL; want http://host:port or https://host:port", e)
		}
	}
	if strings.Trim(c.Prefix, "/") == "" {
		return fmt.Errorf("etcd-prefix: %q names no key; want for example /coreos.com/network", c.Prefix)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("etcd-certfile and etcd-keyfile go together: give both or neither")
	}
	switch {
	case c.Username == "" && c.Password != "":
		return errors.New("etcd-password is set without etcd-username")
	case c.Username == "" && c.PasswordFile != "":
		return errors.New("etcd-password-file is set without etcd-username")
	case c.Password != "" && c.PasswordFile != "":
		return errors.New("etcd-password and etcd-password-file exclude each other")
	}
	return nil
}

// prefix is Prefix in the form that Flannel joins keys to.
func (c EtcdConfig) prefix() string { return path.Clean(c.Prefix) }

const (
	// gRPC's client keepalive: lower values are raised to 10 s by grpc itself.
	// Pings are sent only while a stream (our watch) is open, as etcd's
	// enforcement policy disconnects clients that ping without one.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 10 * time.Second
	// reconnectMax is gRPC's longest pause between connection attempts; its own
	// default of two minutes would add as much to every outage.
	reconnectMax = 3 * time.Second
	// unaryTries lets an RPC whose token has expired run again with a new one.
	// All other retries are ours, at our pace.
	unaryTries = 2
)

// Dial prepares a Registry from a valid c; ctx ends all its RPCs. It reads the
// TLS and password files, but does not wait for etcd: the first RPC connects.
func Dial(ctx context.Context, c EtcdConfig, log *slog.Logger) (*Registry, error) {
	if _, err := c.tls(); err != nil {
		return nil, err
	}
	if _, err := c.password(); err != nil {
		return nil, err
	}
	return &Registry{
		connection: connection{config: c, life: ctx, log: log, broke: make(chan struct{}, 1)},
		prefix:     c.prefix(),
		newLeaseID: randomLeaseID,
	}, nil
}

// client connects. With a user name it waits, for rpcTimeout, until etcd has
// given it a token.
func (c EtcdConfig) client(ctx context.Context, observe grpc.UnaryClientInterceptor) (*clientv3.Client, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, err
	}
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Context:              ctx,
		Endpoints:            c.Endpoints,
		DialTimeout:          rpcTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		TLS:                  tlsConfig,
		Username:             c.Username,
		Password:             string(password),
		MaxUnaryRetries:      unaryTries,
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: rpcTimeout}),
			grpc.WithChainUnaryInterceptor(failFast, observe),
		},
		Logger: zap.NewNop(), // its errors reach us as errors
	})
}

var reconnect = grpcbackoff.Config{
	BaseDelay:  backoffMin,
	Multiplier: grpcbackoff.DefaultConfig.Multiplier,
	Jitter:     grpcbackoff.DefaultConfig.Jitter,
	MaxDelay:   reconnectMax,
}

// failFast undoes the client's WaitForReady: an RPC without a connection ends
// with the reason why there is none, instead of with a deadline that says
// nothing.
func failFast(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
}

// observed tells Observe of an RPC.
func (c *connection) observed(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	began := time.Now()
	err := invoke(ctx, method, req, reply, conn, opts...)
	c.observe(path.Base(method), began, err)
	return err
}

func (c *connection) observe(method string, began time.Time, err error) {
	if c.Observe == nil {
		return
	}
	code := codes.OK
	if err != nil {
		code = codeOf(err)
	}
	c.Observe(method, code.String(), time.Since(began))
}

func (c EtcdConfig) tls() (*tls.Config, error) {
	info := transport.TLSInfo{CertFile: c.CertFile, KeyFile: c.KeyFile, TrustedCAFile: c.CAFile}
	if info.Empty() && c.CAFile == "" {
		return nil, nil // an https endpoint then uses the system's CAs
	}
	t, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("etcd TLS files (etcd-cafile %q, etcd-certfile %q, etcd-keyfile %q): %w", c.CAFile, c.CertFile, c.KeyFile, err)
	}
	return t, nil
}
