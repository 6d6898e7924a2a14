package load

import (
	"context"

	"twill/bench/report"
)

// memory asks the daemons for their memory. It runs last: the peak is that of
// all workloads before it.
type memory struct{}

func (memory) Name() string { return "memory" }

func (memory) Metrics() []report.Metric {
	return []report.Metric{
		{Key: "rss", Label: "RSS of a daemon", Unit: "MB", Topic: report.Cost, Better: report.Lower},
		{Key: "rss_peak", Label: "peak RSS", Unit: "MB", Topic: report.Cost, Better: report.Lower},
	}
}

// Measure returns the larger of the two hosts' daemons.
func (memory) Measure(_ context.Context, p Path) (report.Values, error) {
	values := report.Values{}
	for _, d := range p.Daemons {
		u, err := d.Usage()
		if err != nil {
			return nil, err
		}
		values["rss"] = max(values["rss"], float64(u.RSS)/1e6)
		values["rss_peak"] = max(values["rss_peak"], float64(u.PeakRSS)/1e6)
	}
	return values, nil
}
