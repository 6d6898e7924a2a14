package subnet

import "time"

const (
	// publishShare bounds what the publishing of changes takes of one core: after
	// a table that took 3 ms to put in force the next one waits for 30.
	publishShare = 10
	// publishLatest bounds that wait, however slow the machine is.
	publishLatest = time.Second
)

// pace spaces the tables that changes make: the first one is in force at once,
// those that follow it closely share one.
type pace struct{ next time.Time }

// published notes that a table was published from began to now.
func (p *pace) published(began, now time.Time) {
	p.next = now.Add(min(publishShare*now.Sub(began), publishLatest))
}
