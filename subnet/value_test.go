package subnet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// As Flannel v0.28 writes them.
const (
	flannelUDP   = `{"PublicIP":"192.168.64.3","PublicIPv6":null}`
	flannelVXLAN = `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`
	flannelDual  = `{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:45"}}`
	twillUDP     = `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"udp","BackendData":{"Proto":1,"Node":"web-1","NodeID":"5f0c","Port":8285}}`
)

var publicIP = netip.MustParseAddr("192.168.64.3")

func TestParseValue(t *testing.T) {
	v6 := netip.MustParseAddr("fd00::3")
	for _, tt := range []struct {
		raw  string
		want Value
		udp  bool
	}{
		{flannelUDP, Value{PublicIP: publicIP}, true},
		{flannelVXLAN, Value{PublicIP: publicIP, BackendType: "vxlan"}, false},
		{flannelDual, Value{PublicIP: publicIP, PublicIPv6: v6, BackendType: "vxlan"}, false},
		{twillUDP, Value{PublicIP: publicIP, BackendType: "udp", Proto: 1, Node: "web-1", NodeID: "5f0c", Port: 8285}, true},
		{`{"PublicIP":"192.168.64.3","BackendType":"udp","BackendData":{"Proto":1,"Node":"a","NodeID":"b","Port":1,"Asks":true}}`,
			Value{PublicIP: publicIP, BackendType: "udp", Proto: 1, Node: "a", NodeID: "b", Port: 1, Asks: true}, true},
		{`{"publicip":"192.168.64.3"}`, Value{PublicIP: publicIP}, true},
		{`{"PublicIP":"192.168.64.3","BackendType":"UDP","New":{"a":[1]}}`, Value{PublicIP: publicIP, BackendType: "UDP"}, true},
		{`{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3"}`, Value{PublicIP: netip.IPv4Unspecified(), PublicIPv6: v6}, true},
		// BackendData that is nobody's or another's.
		{`{"PublicIP":"192.168.64.3","BackendData":null}`, Value{PublicIP: publicIP}, true},
		{`{"PublicIP":"192.168.64.3","BackendData":""}`, Value{PublicIP: publicIP}, true},
		{`{"PublicIP":"192.168.64.3","BackendData":[1]}`, Value{PublicIP: publicIP}, true},
		{`{"PublicIP":"192.168.64.3","BackendData":{"Port":"x","Node":7}}`, Value{PublicIP: publicIP}, true},
		{`{"PublicIP":"192.168.64.3","BackendType":"wireguard","BackendData":{"Proto":"x","PublicKey":"y"}}`, Value{PublicIP: publicIP, BackendType: "wireguard"}, false},
		// Ours, of a later version and with less in it.
		{`{"PublicIP":"192.168.64.3","BackendData":{"Proto":9,"Key":"k"}}`, Value{PublicIP: publicIP, Proto: 9}, true},
	} {
		got, err := ParseValue([]byte(tt.raw))
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v; want %+v", tt.raw, got, err, tt.want)
		}
		if got.UDP() != tt.udp {
			t.Errorf("%s: UDP is %t, want %t", tt.raw, got.UDP(), tt.udp)
		}
	}
}

func TestParseValueErrors(t *testing.T) {
	ours := func(data string) string {
		return `{"PublicIP":"192.168.64.3","BackendType":"udp","BackendData":{` + data + `}}`
	}
	for _, tt := range []struct {
		raw  string
		want []string
	}{
		{``, []string{"invalid JSON"}},
		{`nonsense`, []string{"invalid JSON"}},
		{flannelUDP + "x", []string{"invalid JSON at byte"}},
		{`"192.168.64.3"`, []string{"document", "string", "an object"}},
		{`null`, []string{"PublicIP", "required"}},
		{`{}`, []string{"PublicIP", "required"}},
		{`{"PublicIP":null}`, []string{"PublicIP", "required"}},
		{`{"PublicIP":3232252931}`, []string{"PublicIP", "number", "a string"}},
		{`{"PublicIP":""}`, []string{`PublicIP ""`, "IPv4"}},
		{`{"PublicIP":"192.168.64"}`, []string{`PublicIP "192.168.64"`, "IPv4"}},
		{`{"PublicIP":"fd00::3"}`, []string{"PublicIP fd00::3", "IPv4"}},
		{`{"PublicIP":"::ffff:192.168.64.3"}`, []string{"PublicIP", "IPv4"}},
		{`{"PublicIP":"192.168.64.3","PublicIPv6":"x"}`, []string{`PublicIPv6 "x"`, "IPv6"}},
		{`{"PublicIP":"192.168.64.3","PublicIPv6":"192.168.64.3"}`, []string{"PublicIPv6 192.168.64.3", "IPv6"}},
		{`{"PublicIP":"192.168.64.3","PublicIPv6":"fe80::1%eth0"}`, []string{`PublicIPv6 "fe80::1%eth0"`}},
		{`{"PublicIP":"192.168.64.3","BackendType":7}`, []string{"BackendType", "number", "a string"}},
		{`{"PublicIP":"192.168.64.3","BackendType":"a\u001b[2J"}`, []string{"BackendType", "printable"}},
		{`{"PublicIP":"192.168.64.3","BackendType":"` + strings.Repeat("a", 65) + `"}`, []string{"BackendType", "65 bytes", "at most 64"}},
		{ours(`"Proto":"1"`), []string{"BackendData.Proto", `"1"`, "a whole number"}},
		{ours(`"Proto":0`), []string{"BackendData.Proto 0", "1 to 65535"}},
		{ours(`"Proto":-1`), []string{"BackendData.Proto -1", "1 to 65535"}},
		{ours(`"Proto":65536`), []string{"BackendData.Proto 65536", "1 to 65535"}},
		{ours(`"Proto":null`), []string{"BackendData.Proto null", "1 to 65535"}},
		{ours(`"Proto":1,"Port":"8285"`), []string{"BackendData.Port", "string", "a whole number"}},
		{ours(`"Proto":1,"Port":65536`), []string{"BackendData.Port 65536", "0 to 65535"}},
		{ours(`"Proto":1,"Port":-1`), []string{"BackendData.Port -1", "0 to 65535"}},
		{ours(`"Proto":1,"Node":7`), []string{"BackendData.Node", "number", "a string"}},
		{ours(`"Proto":1,"Node":"a\u001b[2J"`), []string{"BackendData.Node", `\x1b`, "printable"}},
		{ours(`"Proto":1,"Node":"a b"`), []string{"BackendData.Node", "blanks"}},
		{ours(`"Proto":1,"Node":"a\u202eb"`), []string{"BackendData.Node", "printable"}},
		{ours(`"Proto":1,"Node":"` + strings.Repeat("n", 256) + `"`), []string{"BackendData.Node", "256 bytes", "at most 255"}},
		{ours(`"Proto":1,"NodeID":["a"]`), []string{"BackendData.NodeID", "array", "a string"}},
		{ours(`"Proto":1,"NodeID":"a\nb"`), []string{"BackendData.NodeID", "printable"}},
		{`{"PublicIP":"192.168.64.3","x":"` + strings.Repeat("x", MaxValueSize) + `"}`, []string{"bytes", "at most 65536"}},
	} {
		v, err := ParseValue([]byte(tt.raw))
		if err == nil {
			t.Errorf("%.200s: accepted as %+v", tt.raw, v)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%.200s: error %q does not say %q", tt.raw, err, want)
			}
		}
		if v != (Value{}) {
			t.Errorf("%.200s: error with a value: %+v", tt.raw, v)
		}
	}
}

func TestValueMarshal(t *testing.T) {
	for _, raw := range []string{
		flannelUDP,
		twillUDP,
		`{"PublicIP":"10.0.0.1","PublicIPv6":"fd00::3","BackendType":"udp","BackendData":{"Proto":2,"Node":"","NodeID":"","Port":0}}`,
	} {
		v, err := ParseValue([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(v.Marshal()); got != raw {
			t.Errorf("got %s, want %s", got, raw)
		}
	}
}

func TestValueCheck(t *testing.T) {
	good := Value{PublicIP: publicIP, BackendType: "udp", Proto: 1, Node: "web-1", NodeID: "5f0c", Port: 8285}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Value){
		"PublicIP":           func(v *Value) { v.PublicIP = netip.Addr{} },
		"PublicIPv6":         func(v *Value) { v.PublicIPv6 = publicIP },
		"BackendData.Proto":  func(v *Value) { v.Proto = -1 },
		"BackendData.Node":   func(v *Value) { v.Node = "Stra\u00dfe" },
		"BackendData.NodeID": func(v *Value) { v.NodeID = strings.Repeat("x", MaxNodeLen+1) },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: error %v, want one that names %s", bad, err, name)
		}
	}
}

// flannelReads decodes the fields that Flannel decodes, with its types' rules.
func flannelReads(raw []byte) error {
	var attrs struct {
		PublicIP    netip.Addr
		PublicIPv6  *netip.Addr
		BackendType string
		BackendData json.RawMessage
	}
	if err := json.Unmarshal(raw, &attrs); err != nil {
		return err
	}
	if !attrs.PublicIP.Is4() {
		return fmt.Errorf("PublicIP %s", attrs.PublicIP)
	}
	return nil
}

func FuzzParseValue(f *testing.F) {
	for _, raw := range []string{flannelUDP, flannelVXLAN, flannelDual, twillUDP} {
		f.Add([]byte(raw))
	}
	f.Add([]byte(`{"PublicIP":"1.2.3.4","BackendData":{"proto":3,"Proto":null,"Node":"<&>"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := ParseValue(raw)
		if err != nil {
			return
		}
		written := v.Marshal()
		if back, err := ParseValue(written); err != nil || back != v {
			t.Fatalf("%s: %s reads back as %+v, %v", raw, written, back, err)
		}
		if err := flannelReads(written); err != nil {
			t.Fatalf("Flannel does not read %s: %v", written, err)
		}
	})
}
