package realtime_test

import (
	"fmt"
	"testing"
	"testing/synctest"
)

func TestDocumentAnswersWhoAsks(t *testing.T) { // document.md section 2.4
	synctest.Test(t, func(t *testing.T) {
		s, _ := docServer(t)
		c := openDoc(t, s)
		silently := func(event, payload string) {
			c.Send(fmt.Sprintf(`[%q,null,%q,%q,%s]`, c.joinRef, c.topic, event, payload))
		}
		silently("submitOp", `{}`)
		c.wantEvent("nack")
		silently("connect_document", request("", nil))
		c.wantEvent("connect_document_error")
		silently("connect_document", request(docToken(t, nil), nil))
		c.id = c.wantEvent("connect_document_success").data["clientId"].(string)
		c.wantEvent("op") // the own join
		silently("submitOp", fmt.Sprintf(`{"clientId":%q,"messageBatches":[[{"clientSequenceNumber":1,"referenceSequenceNumber":1}]]}`, c.id))
		c.wantEvent("op")
		silently("noop", fmt.Sprintf(`{"clientId":%q,"referenceSequenceNumber":1}`, c.id))
		c.push("submitSignal", `{}`)
		c.wantEvent("phx_reply") // the only one
	})
}
