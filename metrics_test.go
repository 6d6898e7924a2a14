package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v2"

	"twill/internal/lab"
)

// exposition is what a daemon exposes: by metric and label, the label's values.
type exposition map[string]map[string][]string

// labels returns the names of a metric's labels, sorted.
func (e exposition) labels(metric string) []string {
	return slices.Sorted(maps.Keys(e[metric]))
}

// scrape returns what h's daemon exposes, and each metric's type.
func (c *cluster) scrape(h *lab.Host) (types map[string]string, exposed exposition) {
	c.t.Helper()
	status, body, err := c.get(h, "/metrics")
	c.must(err)
	if status != 200 {
		c.t.Fatalf("/metrics: %d %s", status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	c.must(err)
	types, exposed = map[string]string{}, exposition{}
	for name, f := range families {
		types[name] = strings.ToLower(f.GetType().String())
		values := map[string][]string{}
		var bounds []string
		for _, m := range f.Metric {
			for _, l := range m.Label {
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
			for _, b := range m.GetHistogram().GetBucket() {
				bounds = append(bounds, fmt.Sprint(b.GetUpperBound()))
			}
		}
		exposed[name] = values
		if f.GetType() == dto.MetricType_HISTOGRAM {
			exposed[name+"_sum"], exposed[name+"_count"], exposed[name+"_bucket"] = values, values, maps.Clone(values)
			exposed[name+"_bucket"]["le"] = bounds
		}
	}
	return types, exposed
}

// What a daemon exposes, what docs/metrics.md says, and what the alerts and the dashboard use, is the same.
func TestMetricsAreAsDocumented(t *testing.T) {
	c := newCluster(t, 2, network(testNetwork))
	c.startAll("--http-addr", httpAddr, "--metrics-per-peer", "--probe-interval", "1s")
	c.pingAll()
	h := c.Hosts[0]
	c.waitFor("a probe and a request to etcd", func() error {
		_, body, err := c.get(h, "/metrics")
		for _, want := range []string{"twill_peer_rtt_seconds{", "twill_peer_probe_loss_ratio{", "twill_etcd_request_duration_seconds_count{", `twill_packets_total{direction="rx"} `} {
			if err == nil && (!strings.Contains(body, "\n"+want) || strings.Contains(body, want+"0\n")) {
				err = fmt.Errorf("no %s", want)
			}
		}
		return err
	})
	types, exposed := c.scrape(h)
	documented := readMetrics(t)
	for name, m := range documented {
		if types[name] != m.kind || !slices.Equal(exposed.labels(name), m.labels) {
			t.Errorf("docs/metrics.md has %s, a %s with the labels %q; the daemon exposes a %q with %q", name, m.kind, m.labels, types[name], exposed.labels(name))
		}
	}
	for name := range types {
		if _, ok := documented[name]; !ok && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
	if len(documented) < 20 {
		t.Errorf("only %d metrics found in docs/metrics.md", len(documented))
	}
	exposed["up"] = nil // Prometheus' own
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, exposed) })
	t.Run("dashboard", func(t *testing.T) { checkDashboard(t, exposed) })
}

type documentedMetric struct {
	kind   string
	labels []string // sorted
}

// readMetrics reads the tables of docs/metrics.md.
func readMetrics(t *testing.T) map[string]documentedMetric {
	t.Helper()
	metrics := map[string]documentedMetric{}
	for line := range strings.Lines(readFile(t, "docs/metrics.md")) {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || !strings.HasPrefix(cells[1], " `twill_") {
			continue
		}
		name := strings.Trim(cells[1], " `")
		m := documentedMetric{kind: strings.TrimSpace(cells[2]), labels: []string{}}
		for _, label := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[4], -1) {
			m.labels = append(m.labels, label[1])
		}
		slices.Sort(m.labels)
		if _, twice := metrics[name]; twice {
			t.Errorf("docs/metrics.md has %s twice", name)
		}
		if strings.TrimSpace(cells[5]) == "" {
			t.Errorf("docs/metrics.md does not say what %s means", name)
		}
		if unit := strings.TrimSpace(cells[3]); strings.Contains(name, "_seconds") != strings.Contains(unit, "seconds") || strings.Contains(name, "_bytes") != strings.Contains(unit, "bytes") {
			t.Errorf("docs/metrics.md has %s in %q", name, unit)
		}
		metrics[name] = m
	}
	return metrics
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// checkQuery parses a query and looks whether each metric in it is exposed with the labels, and their values, that are asked for. It
// returns the labels that its result may have.
func checkQuery(t *testing.T, query string, exposed exposition) []string {
	t.Helper()
	// Grafana's own variables; those of the dashboard stand in strings.
	parsed, err := metricsql.Parse(strings.ReplaceAll(query, "$__rate_interval", "5m"))
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return nil
	}
	result := []string{"job", "instance"}
	metricsql.VisitAll(parsed, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for _, filters := range m.LabelFilterss {
			name := filters[0].Value
			values, ok := exposed[name]
			labels := exposed.labels(name)
			if filters[0].Label != "__name__" || !ok {
				t.Errorf("%s: no metric %q is exposed", query, name)
			}
			for _, f := range filters[1:] {
				if !slices.Contains(append([]string{"job", "instance"}, labels...), f.Label) {
					t.Errorf("%s: %s has no label %q", query, name, f.Label)
				}
				for value := range strings.SplitSeq(f.Value, "|") {
					matches := regexp.MustCompile("^(?:" + value + ")$").MatchString
					if values[f.Label] != nil && !slices.ContainsFunc(values[f.Label], matches) {
						t.Errorf("%s: %s=%q is none of %q", query, f.Label, value, values[f.Label])
					}
				}
			}
			result = append(result, labels...)
		}
	})
	metricsql.VisitAll(parsed, func(e metricsql.Expr) {
		if a, ok := e.(*metricsql.AggrFuncExpr); ok {
			for _, label := range a.Modifier.Args {
				if !slices.Contains(result, label) {
					t.Errorf("%s: no metric has the label %q", query, label)
				}
			}
		}
	})
	return result
}

func checkAlerts(t *testing.T, exposed exposition) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict([]byte(readFile(t, "docs/alerts.yml")), &file); err != nil {
		t.Fatal(err)
	}
	runbook := readFile(t, "docs/monitoring.md")
	seen := map[string]bool{}
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			labels := checkQuery(t, r.Expr, exposed)
			checkTemplate(t, r.Alert, r.Annotations["summary"], `\$labels\.(\w+)`, labels)
			if seen[r.Alert] || r.Annotations["summary"] == "" || r.For == "" || !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
				t.Errorf("%s has no summary, time or severity, or comes twice", r.Alert)
			}
			if r.Annotations["runbook"] != "docs/monitoring.md#"+strings.ToLower(r.Alert) || !strings.Contains(runbook, "\n### "+r.Alert+"\n") {
				t.Errorf("%s has the runbook %q, which must be a section of docs/monitoring.md with its name", r.Alert, r.Annotations["runbook"])
			}
			seen[r.Alert] = true
		}
	}
	for _, section := range regexp.MustCompile(`(?m)^### (Twill\w+)$`).FindAllStringSubmatch(runbook, -1) {
		if !seen[section[1]] {
			t.Errorf("docs/monitoring.md has a section for %s, which is no alert", section[1])
		}
	}
}

// checkTemplate looks whether a text uses labels alone that there are.
func checkTemplate(t *testing.T, where, text, pattern string, labels []string) {
	t.Helper()
	for _, used := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(labels, used[1]) {
			t.Errorf("%s: %q uses the label %q, which there is not", where, text, used[1])
		}
	}
}

func checkDashboard(t *testing.T, exposed exposition) {
	var board struct {
		Title, UID string
		Panels     []struct {
			Title, Type string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "docs/grafana-dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries++
			checkTemplate(t, p.Title, target.LegendFormat, `\{\{(\w+)\}\}`, checkQuery(t, target.Expr, exposed))
		}
	}
	if queries < 20 {
		t.Errorf("only %d queries found", queries)
	}
	for _, v := range board.Templating.List {
		if call := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition); call != nil {
			checkQuery(t, call[1], exposed)
		}
	}
}
