package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"twill/internal/api"
	"twill/internal/terminal"
)

// FuzzTables shows whatever a daemon, or etcd, may say: each row is one line, and
// nothing in it steers the terminal.
func FuzzTables(f *testing.F) {
	f.Add(byte(0), []byte(`{"peers":[{"subnet":"10.5.1.0/24","endpoint":"198.18.0.2:8285","node":"n\u001b[2J","state":"\n","drops":3}]}`))
	f.Add(byte(1), []byte(`{"node":"a\tb","etcd":{"error":"\r\u202e"},"tx":{"drops":{"no-peer\u0007":1}},"offloads":[{"name":"tso","why":"\u0085"}]}`))
	f.Add(byte(2), []byte(`{"leases":[{"subnet":"\u0000","problem":"\u001b]0;x\u0007"},{}]}`))
	f.Add(byte(3), []byte(`{"peers":[{"subnet":"10.5.1.0/24","node":"\u202e\t","state":"up","rx_packets":5}]}`))
	now := time.Unix(1_000_000_000, 0)
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		var out strings.Builder
		tab := &terminal.Table{}
		rows := -1 // unknown
		switch kind % 4 {
		case 0:
			var peers api.Peers
			if json.Unmarshal(data, &peers) != nil {
				return
			}
			peerRows(tab, peers.Peers, kind&4 != 0, now)
			rows = 1 + len(peers.Peers)
			peerReasons(&terminal.Table{}, peers.Peers)
		case 1:
			var s api.Status
			if json.Unmarshal(data, &s) != nil {
				return
			}
			statusRows(tab, s, now)
		case 2:
			var leases api.Leases
			if json.Unmarshal(data, &leases) != nil {
				return
			}
			leaseRows(tab, leases)
		case 3:
			var peers api.Peers
			if json.Unmarshal(data, &peers) != nil {
				return
			}
			shown := top{after: peers, node: func(string) bool { return true }, order: order[peerRate]{compare: rateKeys["rate"]}}
			tab = shown.table(false)
			rows = 2 + len(peers.Peers)
		}
		if _, err := tab.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(out.String(), "\n"); rows >= 0 && lines != rows {
			t.Errorf("%d lines for %d rows:\n%q", lines, rows, out.String())
		}
		for _, r := range out.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%q has %U", out.String(), r)
			}
		}
	})
}
