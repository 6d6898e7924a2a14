package subnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNeverShown(t *testing.T) {
	const password = "hunter2"
	c := EtcdConfig{Username: "root", Password: password}
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s"} {
		shown[verb] = fmt.Sprintf(verb, Secret(password))
		shown[verb+" of the config"] = fmt.Sprintf(verb, c)
		shown[verb+" of its address"] = fmt.Sprintf(verb, &c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	shown["JSON"] = string(raw)
	shown["error"] = fmt.Errorf("log in with %v: %w", c, fmt.Errorf("%s", Secret(password))).Error()
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("dial", "password", Secret(password), "config", c, "pointer", &c)
		shown[name] = b.String()
	}
	for how, s := range shown {
		// 68756e74… is the password in hex.
		if strings.Contains(s, password) || strings.Contains(strings.ToLower(s), "68756e7465723") || !strings.Contains(s, redacted) {
			t.Errorf("%s shows %s", how, s)
		}
	}
	if string(Secret(password)) != password {
		t.Error("the password itself is lost")
	}
}
