package report

import (
	"math"
	"slices"
)

// Summary is what the rounds of one measurement came to.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Rounds are the values in the order they were measured.
	Rounds []float64 `json:"rounds"`
}

// Summarize returns the summary of at least one value.
func Summarize(rounds []float64) Summary {
	return Summary{
		Median: Quantile(rounds, 0.5),
		Min:    slices.Min(rounds),
		Max:    slices.Max(rounds),
		Rounds: rounds,
	}
}

// Quantile returns the value below which the share q (0 to 1) of at least one
// value lies, and interpolates between neighbours: definition 7 of Hyndman and
// Fan, Sample Quantiles in Statistical Packages (1996).
func Quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	position := q * float64(len(sorted)-1)
	below := int(math.Floor(position))
	above := min(below+1, len(sorted)-1)
	part := position - float64(below)
	return sorted[below] + part*(sorted[above]-sorted[below])
}
