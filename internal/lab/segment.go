package lab

import (
	"fmt"

	"twill/internal/lab/card"
)

// SegmentUnderlay makes the underlay's links behave as plain network cards do:
// they send packets no longer than the MTU and merge what they receive. A veth
// as it is hands 64 KB at a time to the other side, which no network does.
func (l *Lab) SegmentUnderlay() error {
	for _, h := range l.Hosts {
		if err := card.Imitate(h.port); err != nil {
			return fmt.Errorf("port of %s: %w", h.Name, err)
		}
		if err := h.Do(func() error { return card.Imitate(l.carrier) }); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return nil
}
