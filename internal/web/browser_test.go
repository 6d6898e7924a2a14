//go:build browser

package web

import (
	"context"
	"flag"
	"fmt"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twill/internal/api"
)

// images is where -images writes the pictures of the documentation; "" keeps them as they are.
var images = flag.String("images", "", "write the status page's pictures for the documentation to this `DIR`")

// patience is how long a browser may take on a machine that is busy with something else.
const patience = 2 * time.Minute

// moving counts on at each request, as a daemon with traffic does.
type moving struct {
	*fake
	asked atomic.Int64
}

func (m *moving) Status() (api.Status, bool) {
	n := uint64(m.asked.Add(1))
	s := m.fake.status
	s.Tx.Packets = 1_000_000 + n
	s.Tx.Bytes += n * 1_400_000_000
	s.Rx.Bytes += n * 320_000_000
	return s, !m.starting
}

func (m *moving) Peers() (api.Peers, bool) {
	n := uint64(m.asked.Load())
	peers := api.Peers{Peers: append([]api.Peer(nil), m.fake.peers.Peers...)}
	for i := range peers.Peers {
		peers.Peers[i].TxBytes += n * uint64(1<<(i%10)) * 40_000
		peers.Peers[i].RxBytes += n * uint64(1<<(i%8)) * 30_000
	}
	return peers, !m.starting
}

// pageOf is the page of d. The browser's own time flies: each answer is ten seconds after the one before.
func pageOf(d Daemon) http.Handler {
	start, answers := time.Now(), new(atomic.Int64)
	later := func() time.Time { return start.Add(time.Duration(answers.Add(1)) * 10 * time.Second) }
	return harden(&page{daemon: d, now: later})
}

// browse runs the browser on a page, by another name than localhost, which browsers trust more than a host of the network. It returns what
// it prints, and fails on what the console says.
func browse(t *testing.T, h http.Handler, query string, args ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	server.Start()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line := append([]string{
		"--headless", "--host-resolver-rules=MAP node1 127.0.0.1", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + t.TempDir(),
	}, append(args, fmt.Sprintf("http://node1:%d/%s", l.Addr().(*net.TCPAddr).Port, query))...)
	cmd := exec.CommandContext(ctx, "chromium", line...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, stderr.String())
	}
	for said := range strings.Lines(stderr.String()) {
		if strings.Contains(said, "CONSOLE") {
			t.Errorf("the console says %s", said)
		}
	}
	return string(out)
}

// dom returns the page as it is after some of the browser's own seconds.
func dom(t *testing.T, d Daemon, query string, args ...string) string {
	t.Helper()
	return browse(t, pageOf(d), query, append(args, "--virtual-time-budget=12000", "--dump-dom")...)
}

// With its script the page takes over what has changed, and stays in its order; the policy is in nobody's way.
func TestPageRefreshesItself(t *testing.T) {
	d := &moving{fake: host(40)}
	body := dom(t, d, "?sort=node&desc=1")
	if n := d.asked.Load(); n < 2 {
		t.Fatalf("the page was asked for %d times, want more than once", n)
	}
	if strings.Contains(body, "in 1\u202f000\u202f001 packets") {
		t.Error("the page shows the counters that it came with")
	}
	if first := strings.Index(body, `<th scope="row">node9<`); first < 0 || first > strings.Index(body, `<th scope="row">node8<`) {
		t.Error("the order was lost")
	}
	if strings.Count(body, `id="live"`) != 1 || strings.Count(body, "<script") != 1 {
		t.Error("the page was not exchanged but doubled")
	}
}

// A daemon that is gone is said, and the last state stays.
func TestPageSaysThatItIsOutOfDate(t *testing.T) {
	d := &dying{fake: host(2)}
	page := dom(t, d, "")
	if !strings.Contains(page, "Out of date: the daemon does not answer") || !strings.Contains(page, "node2") {
		t.Errorf("the page does not say that it is out of date:\n%s", page)
	}
}

// After an upgrade the page is not the new one's text in the old one's style.
func TestPageOfAnotherVersion(t *testing.T) {
	page, asked := pageOf(&moving{fake: host(2)}), 0
	body := browse(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		page.ServeHTTP(answer, r)
		body := answer.Body.String()
		if asked++; asked == 1 {
			body = strings.Replace(body, "</style>", "/* former */</style>", 1)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, body)
	}), "", "--virtual-time-budget=12000", "--dump-dom")
	if asked < 3 || strings.Contains(body, "/* former */") || !strings.Contains(body, "node2") {
		t.Errorf("asked %d times, and the former style is there: %v", asked, strings.Contains(body, "/* former */"))
	}
}

// dying gives one answer.
type dying struct {
	*fake
	asked atomic.Int64
}

func (d *dying) Live() api.Health {
	if d.asked.Add(1) > 1 {
		panic(http.ErrAbortHandler)
	}
	return d.live
}

// What a browser makes of the page that runs no scripts.
func TestPageWithoutScript(t *testing.T) {
	d := &moving{fake: host(3)}
	whole := &page{daemon: d, now: time.Now}
	plain := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		whole.ServeHTTP(answer, r)
		body, _, _ := strings.Cut(answer.Body.String(), "<script>")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, body)
	})
	body := browse(t, plain, "?sort=rtt", "--dump-dom")
	for _, want := range []string{"node4", "<svg", `aria-sort="ascending"`, "10.5.1.0/24"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q", want)
		}
	}
	if n := d.asked.Load(); n != 1 {
		t.Errorf("the page was asked for %d times", n)
	}
}

// No name becomes a part of the page, in a browser's eyes either.
func TestHostileNamesInABrowser(t *testing.T) {
	f := host(3)
	f.status.Node, f.peers.Peers[1].Node = hostile, hostile
	if page := dom(t, &moving{fake: f}, ""); strings.Count(page, "<script") != 1 || strings.Contains(page, "onload=") && !strings.Contains(page, `"onload=`) {
		t.Error("a name is markup")
	}
}

// Screenshots of each kind of page; with -images those of the documentation are written.
func TestScreenshots(t *testing.T) {
	oneAway := host(9)
	oneAway.ready = api.Health{State: api.HealthDegraded, Problems: []api.Problem{{
		Code: api.ProblemPeersUnreachable, Problem: "1 of 9 peers do not answer: node9",
		Remedy: "`twill peers --state unreachable` says of each why; of a host that is gone for good, delete the lease (`twill down --release-lease` on it, else `etcdctl del`)",
	}}}
	unready := host(3)
	unready.ready = failed
	troubled := host(3)
	troubled.ready = degraded
	starting := &fake{live: ok, starting: true, ready: api.Health{State: api.HealthFailed, Problems: []api.Problem{
		{Code: api.ProblemStarting, Problem: "waiting for etcd at http://192.0.2.9:2379: connection refused"},
	}}}
	for _, shot := range []struct {
		name   string
		daemon Daemon
		size   string
		dark   bool
	}{
		{"status-light", &moving{fake: oneAway}, "1200,1800", false},
		{"status-dark", &moving{fake: oneAway}, "1200,1800", true},
		{"phone", &moving{fake: host(9)}, "500,1800", false},
		{"empty", &moving{fake: host(0)}, "1200,900", false},
		{"many", &moving{fake: host(300)}, "1200,1800", false},
		{"degraded", &moving{fake: troubled}, "1200,1500", true},
		{"unready", &moving{fake: unready}, "1200,900", false},
		{"starting", starting, "1200,600", false},
	} {
		t.Run(shot.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), shot.name+".png")
			if *images != "" && strings.HasPrefix(shot.name, "status-") {
				file = filepath.Join(*images, shot.name+".png")
			}
			args := []string{"--window-size=" + shot.size, "--screenshot=" + file, "--virtual-time-budget=12000"}
			if shot.dark {
				args = append(args, "--blink-settings=preferredColorScheme=0")
			}
			browse(t, pageOf(shot.daemon), "", args...)
			checkPicture(t, file, shot.size, shot.dark)
		})
	}
}

// checkPicture looks whether a picture is light or dark at its edge, and not all of one colour.
func checkPicture(t *testing.T, file, size string, dark bool) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	bounds := picture.Bounds()
	if got := fmt.Sprintf("%d,%d", bounds.Dx(), bounds.Dy()); got != size {
		t.Errorf("%s is %s, want %s", file, got, size)
	}
	if r, g, b, _ := picture.At(2, bounds.Dy()/2).RGBA(); (r+g+b)/3 < 0x8000 != dark {
		t.Errorf("%s: the paper is %x %x %x, dark wanted: %v", file, r, g, b, dark)
	}
	colours := map[[3]uint32]bool{}
	for y := 0; y < bounds.Dy(); y += 3 {
		for x := 0; x < bounds.Dx(); x += 3 {
			r, g, b, _ := picture.At(x, y).RGBA()
			colours[[3]uint32{r, g, b}] = true
		}
	}
	if len(colours) < 10 {
		t.Errorf("%s has %d colours", file, len(colours))
	}
}
