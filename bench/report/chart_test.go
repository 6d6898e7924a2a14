package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// drawn is what a test wants to know of a chart.
type drawn struct {
	widths map[string][]float64 // of bars by class
	texts  []string
}

// readChart parses a chart as XML and so checks that it is well formed.
func readChart(t *testing.T, path string) drawn {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := drawn{widths: map[string][]float64{}}
	for decoder := xml.NewDecoder(f); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("%s is no XML: %v", path, err)
		}
		switch token := token.(type) {
		case xml.CharData:
			if s := strings.TrimSpace(string(token)); s != "" {
				d.texts = append(d.texts, s)
			}
		case xml.StartElement:
			if token.Name.Local == "rect" {
				a := attributes(token)
				width, _ := strconv.ParseFloat(a["width"], 64)
				d.widths[a["class"]] = append(d.widths[a["class"]], width)
			}
		}
	}
}

func attributes(e xml.StartElement) map[string]string {
	a := map[string]string{}
	for _, attr := range e.Attr {
		a[attr.Name.Local] = attr.Value
	}
	return a
}

func TestCharts(t *testing.T) {
	dir := t.TempDir()
	if err := sample().SaveCharts(dir); err != nil {
		t.Fatal(err)
	}
	d := readChart(t, filepath.Join(dir, "tcp.svg"))
	if len(d.widths["own"]) != 1 || len(d.widths["kernel"]) != 1 || len(d.widths["peer"]) != 0 {
		t.Fatalf("bars %v, want one of twill and one of the kernel", d.widths)
	}
	if got, want := d.widths["own"][0]/d.widths["kernel"][0], 6.0/21; math.Abs(got-want) > 0.001 {
		t.Errorf("the bars are as %g to 1, the medians as %g", got, want)
	}
	all := strings.Join(d.texts, "\n")
	for _, want := range []string{"A & B <C>", "TCP throughput, Gb/s", "1 stream ↑", "twill", "21.0", "6.00"} {
		if !strings.Contains(all, want) {
			t.Errorf("the chart lacks the text %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, "sent again") {
		t.Error("the chart shows a metric of which neither more nor less is better")
	}
	if _, err := os.Stat(filepath.Join(dir, "udp.svg")); err == nil {
		t.Error("a chart was drawn of a topic without values")
	}
}
