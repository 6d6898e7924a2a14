package forge

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A Ledger compares packets that are due with those that were seen, in any order
// and each as often as it is due.
type Ledger struct {
	open map[string]int // seen less due; never 0
}

// Due notes a packet that must be seen, Saw one that was.
func (l *Ledger) Due(packet []byte) { l.add(packet, -1) }
func (l *Ledger) Saw(packet []byte) { l.add(packet, +1) }

func (l *Ledger) add(packet []byte, n int) {
	if l.open == nil {
		l.open = make(map[string]int)
	}
	key := string(packet)
	if l.open[key] += n; l.open[key] == 0 {
		delete(l.open, key)
	}
}

// Owes tells whether a packet is due that was not seen yet.
func (l *Ledger) Owes(packet []byte) bool { return l.open[string(packet)] < 0 }

// listed is how many packets an error shows.
const listed = 3

// Balance is nil when all that was due was seen, and nothing else.
func (l *Ledger) Balance() error {
	var missing, extra []string
	for packet, n := range l.open {
		shown := hex.EncodeToString([]byte(packet[:min(len(packet), 64)]))
		if n < 0 {
			missing = append(missing, fmt.Sprintf("%d bytes %s…", len(packet), shown))
		} else {
			extra = append(extra, fmt.Sprintf("%d bytes %s…", len(packet), shown))
		}
	}
	if len(missing)+len(extra) == 0 {
		return nil
	}
	return fmt.Errorf("%d packets are missing%s; %d were not due%s", len(missing), list(missing), len(extra), list(extra))
}

func list(packets []string) string {
	if len(packets) == 0 {
		return ""
	}
	slices.Sort(packets)
	return ":\n\t" + strings.Join(packets[:min(len(packets), listed)], "\n\t") + "\n"
}
