package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// Sizes of a chart, in SVG user units (pixels as a browser shows it).
const (
	chartWidth  = 960
	margin      = 16
	headHeight  = 78 // title and two lines about all of it
	nameWidth   = 104
	panelGap    = 14
	linkHeight  = 30 // the name of the link
	labelHeight = 20 // the name of the metric
	rowHeight   = 22
	barHeight   = 12
	valueWidth  = 44 // kept free right of the longest bar for its value
	footHeight  = 10
)

//go:embed chart.svg.tmpl
var chartText string

// The function html of text/template escapes what XML needs too.
var chartTemplate = template.Must(template.New("chart").Parse(chartText))

// chart is a topic as the template draws it: rows of panels, one row for each
// link, one panel for each metric.
type chart struct {
	Title         string
	Where, How    string // measured where, and how to read it
	Width, Height int
	Links         []chartLink
}

type chartLink struct {
	Name   string
	Y      int
	Names  []label
	Panels []panel
}

// label is a text at a place.
type label struct {
	X, Y int
	Text string
}

type panel struct {
	Label label
	X     int
	Top   int
	Foot  int
	Bars  []bar
}

// bar is one contender's median with the range of its rounds.
type bar struct {
	Class          string // colour
	X, Y           int
	Width, Height  float64
	Low, High      float64 // x of the range's ends
	Middle         int     // y of the range
	ValueX, ValueY float64
	Value          string
}

// SaveCharts draws each topic that has values to <topic>.svg in a directory.
func (r *Result) SaveCharts(dir string) error {
	for _, t := range Topics {
		c := r.chart(t)
		if len(c.Links) == 0 {
			continue
		}
		var text bytes.Buffer
		if err := chartTemplate.Execute(&text, c); err != nil {
			return fmt.Errorf("draw %s: %w", t, err)
		}
		if err := os.WriteFile(filepath.Join(dir, string(t)+".svg"), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// chart lays out a topic.
func (r *Result) chart(t Topic) chart {
	c := chart{
		Title: t.Title(),
		Where: fmt.Sprintf("Two hosts and all programs on one machine: %s, %d cores, kernel %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel),
		How:   fmt.Sprintf("Bar: median of %d rounds; line: lowest to highest. ↑ more is better, ↓ less is better.", r.Options.Rounds),
		Width: chartWidth,
	}
	if unit := r.commonUnit(t); unit != "" {
		c.Title += ", " + unit
	}
	y := headHeight
	for _, link := range r.Links {
		l := r.chartLink(link, t, y)
		if len(l.Panels) == 0 {
			continue
		}
		c.Links = append(c.Links, l)
		y += linkHeight + labelHeight + len(l.Names)*rowHeight
	}
	c.Height = y + footHeight
	return c
}

// chartLink lays out a row of panels below y.
func (r *Result) chartLink(link string, t Topic, y int) chartLink {
	l := chartLink{Name: linkTitle(link), Y: y + linkHeight - 10}
	var metrics []Metric
	for _, m := range r.topic(t) {
		if m.Better != Neither && r.highest(link, m) > 0 {
			metrics = append(metrics, m)
		}
	}
	contenders := r.measured(link)
	if len(metrics) == 0 {
		return l
	}
	top := y + linkHeight + labelHeight
	for i, c := range contenders {
		l.Names = append(l.Names, label{X: margin + nameWidth - 8, Y: top + i*rowHeight + rowHeight/2 + 4, Text: c.Name})
	}
	room := chartWidth - 2*margin - nameWidth
	width := (room - panelGap*(len(metrics)-1)) / len(metrics)
	for i, m := range metrics {
		x := margin + nameWidth + i*(width+panelGap)
		l.Panels = append(l.Panels, r.panel(link, m, contenders, x, top, width))
	}
	return l
}

// panel draws a metric's bars from zero on a scale of its own.
func (r *Result) panel(link string, m Metric, contenders []Contender, x, top, width int) panel {
	p := panel{
		Label: label{X: x, Y: top - 6, Text: r.panelLabel(m)},
		X:     x, Top: top - 2, Foot: top + len(contenders)*rowHeight,
	}
	longest := float64(width - valueWidth)
	scale := longest / r.highest(link, m)
	for i, c := range contenders {
		s, found := r.Value(link, c.Name, m.Key)
		if !found {
			continue
		}
		y := top + i*rowHeight + (rowHeight-barHeight)/2
		b := bar{
			Class: class(c), X: x, Y: y,
			Width: s.Median * scale, Height: barHeight,
			Low:    float64(x) + s.Min*scale,
			High:   float64(x) + min(s.Max*scale, longest),
			Middle: y + barHeight/2,
			Value:  Round(s.Median),
		}
		b.ValueX, b.ValueY = max(b.High, float64(x)+b.Width)+5, float64(y+barHeight-2)
		p.Bars = append(p.Bars, b)
	}
	return p
}

// panelLabel names a metric, with its unit where the chart's title does not.
func (r *Result) panelLabel(m Metric) string {
	if r.commonUnit(m.Topic) != "" {
		return m.Label + " " + m.Better.arrow()
	}
	return fmt.Sprintf("%s, %s %s", m.Label, m.Unit, m.Better.arrow())
}

// commonUnit is the unit of all metrics of a topic that are drawn, or "".
func (r *Result) commonUnit(t Topic) (unit string) {
	for _, m := range r.topic(t) {
		switch {
		case m.Better == Neither:
		case unit == "":
			unit = m.Unit
		case unit != m.Unit:
			return ""
		}
	}
	return unit
}

// highest is the end of a panel's scale: the highest median. A range beyond it is
// cut off, so that one outlier does not squeeze all bars.
func (r *Result) highest(link string, m Metric) (top float64) {
	for _, c := range r.measured(link) {
		if s, found := r.Value(link, c.Name, m.Key); found {
			top = max(top, s.Median)
		}
	}
	return top
}

// class is the colour of a contender's bars.
func class(c Contender) string {
	switch {
	case c.Name == reference:
		return "own"
	case strings.HasPrefix(c.Name, reference):
		return "variant"
	case strings.HasPrefix(c.Kind, "kernel"):
		return "kernel"
	default:
		return "peer"
	}
}

// linkTitle says what a kind of link is.
func linkTitle(link string) string {
	switch link {
	case "veth":
		return "veth as it is: passes 64 KB at a time, which flatters the kernel's paths"
	case "segmenting":
		return "segmenting link: packets no longer than the MTU, as on a plain network card"
	}
	return link
}
