package tunnel

import (
	"math/rand/v2"
	"testing"
	"time"
)

// simulatePath runs a pathMTU over a path that takes packets up to mtu and loses every lossth of the others at random, until it has
// nothing more to send. It returns how long that took, in timeouts.
func simulatePath(m *pathMTU, r *rand.Rand, now time.Time, mtu int, loss float64, away bool) (rounds int) {
	const timeout = 100 * time.Millisecond
	for ; m.round != nil; rounds++ {
		for {
			sizes := m.step(now, timeout, r.Uint64, always)
			if len(sizes) == 0 {
				break
			}
			for _, size := range sizes {
				if !away && size <= mtu && r.Float64() >= loss {
					m.answered(m.round.id, size)
				}
			}
		}
		now = now.Add(timeout)
	}
	return rounds
}

func always(int) bool { return true }

// The search finds the limit of any path to within its precision, in few rounds, and never takes one that does not pass.
func TestPathMTUSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	now := time.Now()
	for range 5000 {
		m := &pathMTU{top: 576 + r.IntN(9000)}
		mtu := minPathLimit + r.IntN(m.top)
		m.check(r.Uint64())
		rounds := simulatePath(m, r, now, mtu, 0, false)
		want := min(mtu, m.top)
		if m.limit > want || m.limit < want-mtuPrecision || rounds > 4*mtuVolleys+2 {
			t.Fatalf("a path of %d where %d are wanted: limit %d after %d timeouts", mtu, m.top, m.limit, rounds)
		}
	}
}

// A hint that is right is found exactly.
func TestPathMTUHint(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 11))
	for range 1000 {
		m := &pathMTU{top: 1472, limit: 1472}
		mtu := minPathLimit + r.IntN(m.top-minPathLimit)
		m.search(r.Uint64(), mtu)
		if simulatePath(m, r, time.Now(), mtu, 0, false); m.limit != mtu {
			t.Fatalf("a path of %d, which the hint says: limit %d", mtu, m.limit)
		}
	}
}

// Lost probes do not make the path look smaller, as long as one of three arrives.
func TestPathMTULoss(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 12))
	wrong := 0
	for range 2000 {
		m := &pathMTU{top: 1472, limit: 1472}
		m.check(r.Uint64())
		if simulatePath(m, r, time.Now(), 1472, 0.1, false); m.limit != 1472 {
			wrong++
		}
	}
	// Three losses in a row have a chance of 1 in 1000, and are looked into again before they count.
	if wrong > 2 {
		t.Errorf("%d of 2000 checks with a loss of 10 %% changed the limit", wrong)
	}
}

// A peer that is away says nothing of its path.
func TestPathMTUPeerAway(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 13))
	for _, limit := range []int{0, 1400} {
		m := &pathMTU{top: 1472, limit: limit}
		m.check(1)
		if simulatePath(m, r, time.Now(), 0, 0, true); m.limit != limit {
			t.Errorf("limit %d, want still %d", m.limit, limit)
		}
		m.search(1, 1300)
		if simulatePath(m, r, time.Now(), 0, 0, true); m.limit != limit {
			t.Errorf("limit %d after a search, want still %d", m.limit, limit)
		}
	}
}

func TestPathMTURaise(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 14))
	now := time.Now()
	m := &pathMTU{top: 1472}
	m.check(1)
	simulatePath(m, r, now, 1372, 0, false)
	if m.limit > 1372 || m.limit < 1368 {
		t.Fatalf("limit %d, want about 1372", m.limit)
	}
	if m.mayRaise(now.Add(mtuRaise / 2)) {
		t.Error("raised after 5 minutes, want 10")
	}
	now = now.Add(mtuRaise + time.Minute)
	if !m.mayRaise(now) {
		t.Fatal("not raised after 10 minutes")
	}
	m.search(2, 0)
	simulatePath(m, r, now, 1472, 0, false)
	if m.limit != 1472 || m.mayRaise(now.Add(time.Hour)) {
		t.Errorf("limit %d, want the top and no more raises", m.limit)
	}
}

// What the kernel says of a path, which anybody can forge, is looked into again soon where the peer fell silent during the first look.
func TestPathMTUDoubtUnanswered(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 15))
	now := time.Now()
	m := &pathMTU{top: 1472}
	m.doubt(1, 600, now)
	silent := now.Add(time.Duration(simulatePath(m, r, now, 0, 0, true)) * 100 * time.Millisecond)
	if m.limit != 600 {
		t.Fatalf("limit %d, want the kernel's 600", m.limit)
	}
	again := silent.Add(mtuUnanswered)
	if m.mayRaise(silent) || !m.mayRaise(again) {
		t.Fatalf("raised at once or not after %v", mtuUnanswered)
	}
	m.search(2, m.limit)
	if simulatePath(m, r, again, 1472, 0, false); m.limit != 1472 {
		t.Errorf("limit %d, want what passes", m.limit)
	}
}

// Answers to rounds that are over, or that nobody asked for, change nothing.
func TestPathMTUOldAnswers(t *testing.T) {
	m := &pathMTU{top: 1472, limit: 1000}
	m.answered(7, 1400)
	m.check(8)
	m.answered(7, 1400)
	m.step(time.Now(), time.Second, func() uint64 { return 9 }, always)
	if m.round == nil || m.round.best != 0 || m.limit != 1000 {
		t.Errorf("an answer to another round counted: %+v", m.round)
	}
}
