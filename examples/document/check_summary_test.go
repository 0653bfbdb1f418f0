package main

import (
	"encoding/json"
	"testing"
)

// The checks of summaries.

func TestCheck106_SummaryIsAnsweredInTheStream(t *testing.T) {
	s := host(t, summarized())
	a, b := s.pair(t)
	a.submit(a.made(2, fields{"type": "summarize", "contents": summary("one").String()}))
	all([]*member{a, b}, a.echo(3, 0), a.ops(acknowledged("accepted-one", 3, 0)))
	a.submit(a.made(4))
	all([]*member{a, b}, a.echo(5, 0))
	a.nothing()
}

func TestCheck107_SummaryMayBeAnObject(t *testing.T) {
	a, b := host(t, summarized()).pair(t)
	a.submit(a.made(2, fields{"type": "summarize", "contents": summary("one")}))
	all([]*member{a, b}, a.echo(3, 0), a.ops(acknowledged("accepted-one", 3, 0)))
}

func TestCheck108_MalformedSummaryIsRefused(t *testing.T) {
	a, b := host(t, summarized()).pair(t)
	for _, test := range []struct {
		contents any
		missing  string
	}{
		{fields{}, "missing fields: handle, head, message, parents"},
		{"{}", "missing fields: handle, head, message, parents"},
		{summary("x").with(fields{"message": nil, "parents": nil}), "missing fields: message, parents"},
		{"no JSON", ""}, {5, ""},
	} {
		a.made(2, fields{"type": "summarize", "contents": test.contents})
		a.submit(a.last)
		content := refusal(400, anyValue, "Invalid summarize op: "+test.missing)
		if test.missing == "" {
			content["message"] = startOf + "Invalid summarize op"
		}
		a.want(nack(a.last, 0, content))
		a.csn--
	}
	b.nothing()
	a.submit(a.made(2))
	all([]*member{a, b}, a.echo(3, 0))
}

func TestCheck109_SummaryWithoutHookIsRefusedInTheStream(t *testing.T) {
	a, b := host(t).pair(t)
	a.submit(a.made(2, fields{"type": "summarize", "contents": summary("one").String()}))
	contents := compact(fields{"summaryProposal": fields{"summarySequenceNumber": 3}, "code": 400, "message": anyValue})
	answer := system("summaryNack", int64(4), 0, json.RawMessage(contents), jsonOf+contents)
	all([]*member{a, b}, a.echo(3, 0), a.ops(answer))
	a.submit(a.made(4))
	all([]*member{a, b}, a.echo(5, 0))
}
