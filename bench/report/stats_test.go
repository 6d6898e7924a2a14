package report

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{10, 20, 30, 40, 50}, 0.25, 20},
		{[]float64{10, 20}, 0.99, 19.9},
		{[]float64{1, 2, 3}, 1, 3},
	} {
		if got := Quantile(tt.values, tt.q); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("Quantile(%v, %g) = %g, want %g", tt.values, tt.q, got, tt.want)
		}
	}
}

// TestQuantileSplits checks by counting that the share q lies on its side.
func TestQuantileSplits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		values := make([]float64, 1+r.IntN(50))
		for i := range values {
			values[i] = r.NormFloat64()
		}
		unsorted := slices.Clone(values)
		q := r.Float64()
		got := Quantile(values, q)
		below := 0
		for _, v := range values {
			if v < got {
				below++
			}
		}
		exact := q * float64(len(values)-1)
		if float64(below) < exact-1e-9 || float64(below) > exact+1+1e-9 {
			t.Fatalf("%d of %v lie below the quantile %g = %g", below, values, q, got)
		}
		if !slices.Equal(values, unsorted) {
			t.Fatal("Quantile reordered its argument")
		}
	}
}

func TestSummarize(t *testing.T) {
	s := Summarize([]float64{5, 1, 3})
	if s.Median != 3 || s.Min != 1 || s.Max != 5 || !slices.Equal(s.Rounds, []float64{5, 1, 3}) {
		t.Errorf("got %+v", s)
	}
}
