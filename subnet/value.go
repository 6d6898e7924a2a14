package subnet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// MaxValueSize bounds a lease's value in bytes. Flannel's and twill's own have less than
	// 1 KiB; the rest is room for BackendData of others.
	MaxValueSize = 64 << 10
	// MaxNodeLen is the longest Node and NodeID in bytes: that of a domain name, RFC 1035 2.3.4.
	MaxNodeLen = 255
	// maxBackendTypeLen is far above any of Flannel's, in bytes.
	maxBackendTypeLen = 64
	// maxProto is the highest revision of twill's control protocol that a lease may announce.
	maxProto = 65535
)

// Value is what a lease's key maps to in etcd: where its owner is and what it speaks.
type Value struct {
	PublicIP    netip.Addr // IPv4 on the underlay; whether it can be a peer is for the table to judge
	PublicIPv6  netip.Addr // zero when null
	BackendType string     // empty in a lease of Flannel's udp backend, see UDP

	// twill's own fields, kept in BackendData where Flannel's udp backend never looks.
	// All zero in a lease that twill did not write.
	Proto  int    // revision of the control protocol, 1 or higher
	Node   string // host name, for people
	NodeID string // identity of the host, stable over restarts and address changes
	Port   uint16 // UDP port; 0 means the network config's
	Asks   bool   // a host that starts asks whoever holds the lease to write it without this
}

// answered is v without a question.
func (v Value) answered() Value {
	v.Asks = false
	return v
}

// UDP tells whether the lease's owner speaks the udp backend.
func (v Value) UDP() bool {
	return v.BackendType == "" || strings.EqualFold(v.BackendType, BackendUDP)
}

// rawValue is the value as Flannel encodes it, in its order of fields.
type rawValue struct {
	PublicIP    *string
	PublicIPv6  *string
	BackendType string          `json:",omitempty"`
	BackendData json.RawMessage `json:",omitempty"`
}

// rawData is BackendData as twill encodes it.
type rawData struct {
	Proto  json.RawMessage // a whole number; that it is there makes the object ours
	Node   string
	NodeID string
	Port   int
	Asks   bool `json:",omitempty"`
}

// ParseValue reads a lease's value. Unknown fields and the BackendData of other backends are
// skipped; fields of ours that are wrong are errors that name the field and what is allowed.
func ParseValue(raw []byte) (Value, error) {
	if len(raw) > MaxValueSize {
		return Value{}, fmt.Errorf("lease value: %d bytes, want at most %d", len(raw), MaxValueSize)
	}
	var r rawValue
	if err := unmarshal(raw, &r); err != nil {
		return Value{}, fmt.Errorf("lease value: %w", err)
	}
	v, err := r.validate()
	if err != nil {
		return Value{}, fmt.Errorf("lease value: %w", err)
	}
	return v, nil
}

func (r rawValue) validate() (Value, error) {
	v := Value{BackendType: r.BackendType}
	var err error
	if r.PublicIP == nil {
		return Value{}, fmt.Errorf("PublicIP: required, want an IPv4 address")
	}
	if v.PublicIP, err = netip.ParseAddr(*r.PublicIP); err != nil || v.PublicIP.Zone() != "" {
		return Value{}, fmt.Errorf("PublicIP %.64q: want an IPv4 address", *r.PublicIP)
	}
	if r.PublicIPv6 != nil {
		if v.PublicIPv6, err = netip.ParseAddr(*r.PublicIPv6); err != nil || v.PublicIPv6.Zone() != "" {
			return Value{}, fmt.Errorf("PublicIPv6 %.64q: want an IPv6 address or null", *r.PublicIPv6)
		}
	}
	if v.UDP() {
		if err := v.readData(r.BackendData); err != nil {
			return Value{}, err
		}
	}
	if err := v.Check(); err != nil {
		return Value{}, err
	}
	return v, nil
}

// readData fills in twill's own fields. BackendData is ours when it is an object with a Proto.
func (v *Value) readData(data json.RawMessage) error {
	var d rawData
	err := unmarshal(data, &d) // goes on after a field of the wrong kind
	switch {
	case d.Proto == nil:
		return nil
	case err != nil:
		return fmt.Errorf("BackendData.%w", err)
	}
	proto, err := strconv.Atoi(string(d.Proto))
	if err != nil || proto < 1 {
		return fmt.Errorf("BackendData.Proto %.64s: want a whole number, 1 to %d", d.Proto, maxProto)
	}
	if d.Port < 0 || d.Port > 65535 {
		return fmt.Errorf("BackendData.Port %d: want 0 to 65535", d.Port)
	}
	v.Proto, v.Node, v.NodeID, v.Port, v.Asks = proto, d.Node, d.NodeID, uint16(d.Port), d.Asks
	return nil
}

// Check returns nil when Marshal would give bytes that ParseValue and Flannel read. Call it
// before a value made from flags is written: one unreadable value stops every Flannel peer.
func (v Value) Check() error {
	if !v.PublicIP.Is4() {
		return fmt.Errorf("PublicIP %s: want an IPv4 address", v.PublicIP)
	}
	if a := v.PublicIPv6; a.IsValid() && (!a.Is6() || a.Is4In6() || a.Zone() != "") {
		return fmt.Errorf("PublicIPv6 %s: want an IPv6 address or null", a)
	}
	if v.Proto < 0 || v.Proto > maxProto {
		return fmt.Errorf("BackendData.Proto %d: want 1 to %d", v.Proto, maxProto)
	}
	if err := checkText("BackendType", v.BackendType, maxBackendTypeLen); err != nil {
		return err
	}
	if err := CheckNode(v.Node); err != nil {
		return fmt.Errorf("BackendData.%w", err)
	}
	return checkText("BackendData.NodeID", v.NodeID, MaxNodeLen)
}

// CheckNode returns nil for a host name that every peer can read and print.
func CheckNode(name string) error { return checkText("Node", name, MaxNodeLen) }

// checkText bounds a text that ends up in logs, tables and on terminals: no escape sequences,
// no line breaks, and no blanks that would shift a table's columns.
func checkText(field, s string, maxLen int) error {
	if len(s) > maxLen {
		return fmt.Errorf("%s: %d bytes, want at most %d", field, len(s), maxLen)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Errorf("%s %q: want printable ASCII without blanks", field, s)
		}
	}
	return nil
}

// Marshal is the value as Flannel writes it, with twill's fields in BackendData when Proto is
// set. The value has to pass Check.
func (v Value) Marshal() []byte {
	publicIP := v.PublicIP.String()
	r := rawValue{PublicIP: &publicIP, BackendType: v.BackendType}
	if v.PublicIPv6.IsValid() {
		s := v.PublicIPv6.String()
		r.PublicIPv6 = &s
	}
	if v.Proto > 0 {
		r.BackendData = mustMarshal(rawData{json.RawMessage(strconv.Itoa(v.Proto)), v.Node, v.NodeID, int(v.Port), v.Asks})
	}
	return mustMarshal(r)
}

// mustMarshal encodes a struct of strings, numbers and raw JSON made here, which cannot fail.
func mustMarshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return raw
}
