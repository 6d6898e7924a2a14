package load

import "testing"

func TestDatagrams(t *testing.T) {
	if got, err := datagrams(map[string]uint64{"InDatagrams": 1000, "InErrors": 33, "RcvbufErrors": 30}); err != nil || got != 1030 {
		t.Errorf("got %d %v, want 1030", got, err)
	}
	for _, missing := range []map[string]uint64{nil, {"InDatagrams": 5}, {"RcvbufErrors": 5}} {
		if got, err := datagrams(missing); err == nil {
			t.Errorf("%v: got %d, want an error", missing, got)
		}
	}
}
