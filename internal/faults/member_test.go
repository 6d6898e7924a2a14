package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"
)

// memberCommand as the first argument makes the test binary an etcd member; the
// second is a memberConfig in JSON.
const memberCommand = "etcd-member"

// memberConfig is one member of an etcd cluster.
type memberConfig struct {
	Name    string
	Dir     string // data directory
	Client  string // URLs
	Peer    string
	Cluster string // name=peer-URL of all members, comma-separated

	CertFile, KeyFile, CAFile string // of the client listener; CAFile: clients need a certificate
	TokenSeconds              uint   // life of a login's token; 0: etcd's own
}

// minBcryptCost is bcrypt's lowest: etcd's own takes seconds to log in under the
// race detector.
const minBcryptCost = 4

// runMember is an etcd in the foreground: it says READY=1 when it serves or
// waits for its cluster, and ends at SIGTERM.
func runMember(raw string) error {
	var c memberConfig
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		return fmt.Errorf("member config: %w", err)
	}
	e, err := c.embed()
	if err != nil {
		return err
	}
	etcd, err := embed.StartEtcd(e)
	if err != nil {
		return fmt.Errorf("etcd member %s: %w", c.Name, err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, unix.SIGTERM)
	select {
	case <-etcd.Server.ReadyNotify():
	case <-end:
		return nil
	}
	if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
		return err
	}
	select {
	case <-end:
		// No Close: it would wait for the clients' watches, which never end.
		return nil
	case err := <-etcd.Err():
		return errors.Join(errors.New("etcd ended"), err)
	}
}

func (c memberConfig) embed() (*embed.Config, error) {
	client, err := url.Parse(c.Client)
	if err != nil {
		return nil, err
	}
	peer, err := url.Parse(c.Peer)
	if err != nil {
		return nil, err
	}
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.Dir
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	e.InitialCluster = c.Cluster
	e.ClientTLSInfo = transport.TLSInfo{CertFile: c.CertFile, KeyFile: c.KeyFile, TrustedCAFile: c.CAFile, ClientCertAuth: c.CAFile != ""}
	if c.TokenSeconds != 0 {
		e.AuthTokenTTL = c.TokenSeconds
	}
	e.BcryptCost = minBcryptCost
	e.UnsafeNoFsync = true
	e.EnableGRPCGateway = false
	e.LogLevel, e.LogOutputs = "error", []string{"stderr"}
	return e, nil
}
