//go:build race

package tunnel

// raceDetector says that the tests run under the race detector.
const raceDetector = true
