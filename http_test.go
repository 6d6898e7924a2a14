package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"twill/internal/api"
	"twill/internal/lab"
)

// httpAddr is each host's --http-addr in the tests.
const httpAddr = "127.0.0.1:8286"

// httpClient speaks from inside h.
func httpClient(h *lab.Host) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
			err = h.Do(func() (err error) {
				conn, err = net.DialTimeout(network, addr, patience)
				return err
			})
			return conn, err
		},
	}}
}

// get asks h's daemon over HTTP.
func (c *cluster) get(h *lab.Host, path string) (status int, body string, err error) {
	resp, err := httpClient(h).Get("http://" + httpAddr + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// waitHealth waits until path says state, because of code if that is not "".
func (c *cluster) waitHealth(h *lab.Host, path string, state api.HealthState, code string) {
	c.t.Helper()
	c.waitFor(fmt.Sprintf("%s to be %s", path, state), func() error {
		status, body, err := c.get(h, path+"?format=json")
		var health api.Health
		if err == nil {
			err = json.Unmarshal([]byte(body), &health)
		}
		if err != nil {
			return err
		}
		if health.State != state || (status == http.StatusServiceUnavailable) != (state == api.HealthFailed) || code != "" && !strings.Contains(body, `"code":"`+code+`"`) {
			return fmt.Errorf("it is %d %s", status, body)
		}
		return nil
	})
}

// Ready goes with whether packets pass; etcd has no part in that once the lease is there.
func TestHealthOverHTTP(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	c.StopEtcd()
	p, err := h.StartDaemon("--http-addr", httpAddr, "--iptables-resync", "1")
	c.must(err)
	c.waitFor("the start to be seen", func() error {
		status, body, err := c.get(h, "/readyz")
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(body, "starting: waiting for etcd at")) {
			err = fmt.Errorf("/readyz: %d %s", status, body)
		}
		return err
	})
	c.waitHealth(h, "/healthz", api.HealthOK, "")

	c.must(c.StartEtcd(c.ctx))
	c.must(p.Ready(c.patient()))
	c.waitHealth(h, "/readyz", api.HealthOK, "")

	status, page, err := c.get(h, "/")
	c.must(err)
	if subnet := c.subnetOf(h).String(); status != http.StatusOK || !strings.Contains(page, subnet) || !strings.Contains(page, "Healthy") {
		t.Errorf("/: %d, without %s:\n%s", status, subnet, page)
	}
	c.StopEtcd()
	c.waitHealth(h, "/readyz", api.HealthDegraded, api.ProblemEtcdAway)
	c.must(h.SetUplink(false))
	c.waitHealth(h, "/readyz", api.HealthFailed, api.ProblemUnderlay)
	c.must(h.SetUplink(true))
	c.waitHealth(h, "/readyz", api.HealthDegraded, api.ProblemEtcdAway)
	c.must(c.StartEtcd(c.ctx))
	c.waitHealth(h, "/readyz", api.HealthOK, "")
	c.waitHealth(h, "/healthz", api.HealthOK, "")
	c.stop(p)
}

// A second program on the port is said in one line, before anything is touched.
func TestHTTPPortInUse(t *testing.T) {
	c := newCluster(t, 1, network(testNetwork))
	h := c.Hosts[0]
	var l net.Listener
	c.must(h.Do(func() (err error) {
		l, err = net.Listen("tcp", httpAddr)
		return err
	}))
	defer l.Close()
	p, err := h.StartDaemon("--http-addr", httpAddr)
	c.must(err)
	code, err := p.Wait(c.patient())
	c.must(err)
	if code != exitFailed || !strings.Contains(p.Log(), "http-addr: listen tcp "+httpAddr+": bind: address already in use") {
		t.Errorf("exit code %d, it said:\n%s", code, p.Log())
	}
}
