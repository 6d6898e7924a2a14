package lab

import (
	"errors"
	"sync"
)

// numbers are the labs of this process; a lab's number names its switch and
// chooses its /24 of 198.18.0.0/15, which holds 512 of them.
var numbers struct {
	sync.Mutex
	used [512]bool
}

// takeNumber takes the lowest free number.
func takeNumber() (int, error) {
	numbers.Lock()
	defer numbers.Unlock()
	for i, used := range numbers.used {
		if !used {
			numbers.used[i] = true
			return i, nil
		}
	}
	return 0, errors.New("lab: 512 labs exist already; close some")
}

func releaseNumber(i int) {
	numbers.Lock()
	defer numbers.Unlock()
	numbers.used[i] = false
}
