"""Content outside of events: the claim check. A store holds it, named by tenant and by the hash of its bytes.

An event names what is stored in `content_refs`. There are two kinds of references:

- of a whole field: `field` is the field's path, such as `outputs` or `tool.tool_outputs`. What is stored is
  the field's text in UTF-8, and the field itself holds a preview of it (`tailrace.content_store.previews`).
- of a medium inside a field: `field` is the field's path and `#media`. What is stored is the medium's own
  bytes, and the text of the field names it where its base64 was (`tailrace.content_store.media`).
"""
