package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"twill/internal/api"
)

const (
	// maxDrawn is how many peers the picture has room for, with their names.
	maxDrawn = 48
	// fewDrawn is how many of them may have a larger, level name.
	fewDrawn = 12
	// pictureSize and ring are the picture's side and the radius on which the peers lie, in its own units.
	pictureSize = 720
	ring        = 230
	center      = pictureSize / 2
	// margin is what a picture with level names leaves out above and below.
	margin = 70
	// thinnest and thickest are the widths of lines; the thickest is fullRate, in bytes a second.
	thinnest, thickest = 1.5, 14.0
	fullRate           = 1.25e9 // 10 Gbit/s
	idleRate           = 1.25e2 // 1 kbit/s
	maxName            = 16     // characters
)

// picture has this host in the middle and its peers around it.
type picture struct {
	Box    string // the part of the drawing that is shown, a viewBox
	Center int
	Few    bool
	Nodes  []node
	Total  int
}

// node is a peer in the picture, with its line from the middle.
type node struct {
	row
	Class  string // of colour and line
	Mark   string // path of its mark, around 0,0
	Width  string
	X, Y   string
	LX, LY string // of the name
	Anchor string
	Turn   string // of the name, in degrees
	Label  string
}

// band is a range of round-trip times: each has a colour and a mark of its own.
type band struct {
	Class, Title, Mark string
	below              float64 // seconds
}

var (
	bands = []band{
		{"rtt1", "under 1 ms", "M-7,0a7,7 0 1,0 14,0a7,7 0 1,0 -14,0z", 0.001},
		{"rtt2", "under 10 ms", "M-6.5,-6.5h13v13h-13z", 0.01},
		{"rtt3", "under 100 ms", "M0,-9L9,0L0,9L-9,0z", 0.1},
		{"rtt4", "100 ms and more", "M0,-9L8.5,6.5L-8.5,6.5z", math.Inf(1)},
	}
	unmeasured = band{"unknown", "no answer yet, or not probed", "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0z", 0}
	unreached  = band{"lost", "out of reach or vanished", "M-7,-4.5L-4.5,-7L0,-2.5L4.5,-7L7,-4.5L2.5,0L7,4.5L4.5,7L0,2.5L-4.5,7L-7,4.5L-2.5,0z", 0}
)

// Legend is the key to colours and marks.
func (picture) Legend() []band { return append(slices.Clone(bands), unmeasured, unreached) }

func bandOf(r row) band {
	switch {
	case r.State == api.StateUnreachable, r.State == api.StateVanished, r.State == api.StateIncompatible:
		return unreached
	case r.RTT == nil:
		return unmeasured
	}
	for _, b := range bands {
		if r.RTT.Smoothed < b.below {
			return b
		}
	}
	return unmeasured
}

// draw places the peers, if there are too many those that matter most: with trouble first, then with the most traffic.
func draw(rows []row) picture {
	p := picture{Box: fmt.Sprint("0 0 ", pictureSize, " ", pictureSize), Center: center, Total: len(rows)}
	drawn := slices.Clone(rows)
	if len(drawn) > maxDrawn {
		slices.SortStableFunc(drawn, func(a, b row) int {
			return cmp.Or(byState(a, b), cmp.Compare(b.Rate(), a.Rate()), cmp.Compare(b.TxBytes+b.RxBytes, a.TxBytes+a.RxBytes))
		})
		drawn = drawn[:maxDrawn]
		slices.SortStableFunc(drawn, func(a, b row) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	}
	if p.Few = len(drawn) <= fewDrawn; p.Few {
		p.Box = fmt.Sprint("0 ", margin, " ", pictureSize, " ", pictureSize-2*margin)
	}
	for i, r := range drawn {
		p.Nodes = append(p.Nodes, place(r, i, len(drawn), p.Few))
	}
	return p
}

// place puts peer i of n on the ring, clockwise from the top.
func place(r row, i, n int, few bool) node {
	angle := 2*math.Pi*float64(i)/float64(n) - math.Pi/2
	sin, cos := math.Sincos(angle)
	at := func(radius float64) (x, y string) {
		return coordinate(center + radius*cos), coordinate(center + radius*sin)
	}
	b := bandOf(r)
	d := node{row: r, Class: b.Class, Mark: b.Mark, Width: coordinate(width(r.Rate())), Turn: "0", Label: shorten(r.Name())}
	d.X, d.Y = at(ring)
	const gap = 18
	if few {
		d.LX, d.LY = at(ring + gap)
		switch {
		case cos > 0.2:
			d.Anchor = "start"
		case cos < -0.2:
			d.Anchor = "end"
		default:
			d.Anchor = "middle"
			d.LX, d.LY = at(ring + gap + 8)
		}
		return d
	}
	// Names go outwards like spokes, and never upside down.
	d.Anchor = "start"
	d.LX, d.LY = at(ring + gap)
	turn := angle * 180 / math.Pi
	if cos < -1e-9 {
		d.Anchor, turn = "end", turn+180
	}
	d.Turn = coordinate(turn)
	return d
}

// width of a line grows with the logarithm of the rate.
func width(rate float64) float64 {
	share := math.Log(max(rate, idleRate)/idleRate) / math.Log(fullRate/idleRate)
	return thinnest + (thickest-thinnest)*min(share, 1)
}

func coordinate(f float64) string { return fmt.Sprintf("%.1f", f) }

func shorten(name string) string {
	if runes := []rune(name); len(runes) > maxName {
		return string(runes[:maxName-1]) + "…"
	}
	return name
}
