package main

import (
	"encoding/json"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode"

	"twill/internal/api"
)

// FuzzTables shows whatever a daemon, or etcd, may say: each row is one line, and
// nothing in it steers the terminal.
func FuzzTables(f *testing.F) {
	f.Add(byte(0), []byte(`{"peers":[{"subnet":"10.5.1.0/24","endpoint":"198.18.0.2:8285","node":"n\u001b[2J","state":"\n","drops":3}]}`))
	f.Add(byte(1), []byte(`{"node":"a\tb","etcd":{"error":"\r\u202e"},"tx":{"drops":{"no-peer\u0007":1}},"offloads":[{"name":"tso","why":"\u0085"}]}`))
	f.Add(byte(2), []byte(`{"leases":[{"subnet":"\u0000","problem":"\u001b]0;x\u0007"},{}]}`))
	now := time.Unix(1_000_000_000, 0)
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		var out strings.Builder
		tab := &table{w: tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)}
		rows := -1 // unknown
		switch kind % 3 {
		case 0:
			var peers api.Peers
			if json.Unmarshal(data, &peers) != nil {
				return
			}
			peerRows(tab, peers, now)
			rows = 1 + len(peers.Peers)
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
			rows = 1 + len(leases.Leases)
		}
		tab.w.Flush()
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
