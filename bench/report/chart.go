package report

func (r *Result) SaveCharts(dir string) error { return nil }
