"""Drives the simulators with Google's and Supabase's own Python clients; see README.md here."""

import json
import os
import urllib.request

import google.oauth2.credentials
from google.auth.exceptions import RefreshError
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from postgrest import APIError, SyncPostgrestClient
from cryptography.fernet import Fernet, InvalidToken

env = os.environ


def supabase(key):
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    return SyncPostgrestClient(f"{env['SUPABASE_URL']}/rest/v1", headers=headers)


def check_supabase():
    client = supabase(env["SUPABASE_KEY"])
    page = client.table("perm_users").select("id,email", count="exact").limit(7).execute()
    assert len(page.data) == 7 and page.count >= 20, page.count
    head = client.table("perm_users").select("*", count="exact", head=True).execute()
    assert head.count == page.count
    ids, last = [], None
    while True:
        query = client.table("perm_users").select("id").order("id").limit(5)
        if last:
            query = query.gt("id", last)
        rows = query.execute().data
        if not rows:
            break
        ids += [row["id"] for row in rows]
        last = ids[-1]
    assert len(set(ids)) == page.count
    deleted = client.table("perm_users").select("id").not_.is_("deleted_at", "null").execute()
    assert len(deleted.data) >= 1
    chosen = client.table("perm_users").select("id").in_("id", ids[:3]).execute()
    assert len(chosen.data) == 3
    one = client.table("perm_users").select("*").eq("id", ids[0]).single().execute()
    assert one.data["id"] == ids[0]
    ranged = client.table("cases").select("*").order("id").range(0, 3).execute()
    assert len(ranged.data) == 4
    for action, code in [
        (lambda: client.table("users").select("*").execute(), "PGRST205"),
        (lambda: client.table("perm_users").select("nope").execute(), "42703"),
        (lambda: client.table("perm_users").select("*").eq("id", "x").execute(), "22P02"),
        (lambda: client.table("perm_users").delete().eq("id", ids[0]).execute(), "42501"),
    ]:
        try:
            action()
        except APIError as error:
            assert error.code == code, error
        else:
            raise AssertionError(f"no {code}")
    return client.table("perm_users").select("*").order("id").execute().data


def credentials(refresh_token):
    return google.oauth2.credentials.Credentials(
        None,
        refresh_token=refresh_token,
        token_uri=env["GOOGLE_OAUTH_TOKEN_URL"],
        client_id=env["GOOGLE_CLIENT_ID"],
        client_secret=env["GOOGLE_CLIENT_SECRET"],
    )


def calendar(creds):
    base = env["GOOGLE_CALENDAR_API_URL"].removesuffix("/calendar/v3")
    options = {"api_endpoint": f"{base}/calendar/v3/"}
    return build("calendar", "v3", credentials=creds, client_options=options)


def reason(action):
    try:
        action.execute()
    except HttpError as error:
        return error.resp.status, error.error_details[0]["reason"]
    return None


def check_calendar(users):
    fernet = Fernet(env["ENCRYPTION_KEY"])
    outcomes = {"ok": 0, "dead": 0, "undecryptable": 0}
    checked = False
    for user in users:
        if not user["google_refresh_token"]:
            continue
        try:
            refresh = fernet.decrypt(user["google_refresh_token"].encode()).decode()
        except InvalidToken:
            outcomes["undecryptable"] += 1
            continue
        service = calendar(credentials(refresh))
        try:
            page = service.events().list(calendarId="primary", maxResults=2500)
            events, _ = list_all(service, page)
        except RefreshError as error:
            assert "invalid_grant" in str(error), error
            outcomes["dead"] += 1
            continue
        outcomes["ok"] += 1
        if not checked and len(events) > 10:
            check_one(service, events)
            checked = True
    assert checked and all(outcomes.values()), outcomes
    return outcomes


def list_all(service, request):
    events = []
    while request is not None:
        page = request.execute()
        events += page["items"]
        request = service.events().list_next(request, page)
    return events, page


def check_one(service, events):
    api = service.events()
    event = next(e for e in events if "start" in e and "date" in e["start"])
    _, last = list_all(service, api.list(calendarId="primary", maxResults=2500))
    sync = last["nextSyncToken"]
    delete = api.delete(calendarId="primary", eventId=event["id"], sendUpdates="none")
    delete.headers["If-Match"] = '"1"'
    assert reason(delete) == (412, "conditionNotMet")
    delete.headers["If-Match"] = event["etag"]
    assert delete.execute() == ""
    again = api.delete(calendarId="primary", eventId=event["id"])
    assert reason(again) == (410, "deleted")
    changes, _ = list_all(service, api.list(calendarId="primary", syncToken=sync))
    assert [(e["id"], e["status"]) for e in changes] == [(event["id"], "cancelled")]
    back = api.patch(calendarId="primary", eventId=event["id"], body={"status": "confirmed"})
    assert back.execute()["summary"] == event["summary"]
    copy = {"summary": "copy", "start": event["start"], "end": event["end"]}
    new = api.insert(calendarId="primary", body=copy).execute()
    assert reason(api.insert(calendarId="primary", body={**copy, "id": new["id"]})) == (409, "duplicate")
    api.update(calendarId="primary", eventId=new["id"], body={**copy, "summary": "two"}).execute()
    some = api.list(calendarId="primary", q="two", singleEvents=True, orderBy="startTime")
    assert [e["summary"] for e in list_all(service, some)[0]] == ["two"]
    masked = api.get(calendarId="primary", eventId=new["id"], fields="id,start/date").execute()
    assert masked == {"id": new["id"], "start": event["start"]}, masked
    masked = api.list(calendarId="primary", fields="items(id,status),nextSyncToken").execute()
    assert set(masked) == {"items", "nextSyncToken"} and set(masked["items"][0]) == {"id", "status"}
    api.delete(calendarId="primary", eventId=new["id"]).execute()
    assert reason(service.calendarList().list()) == (403, "insufficientPermissions")
    assert reason(api.list(calendarId="primary", syncToken=sync, timeMin="2026-01-01T00:00:00Z")) == (400, "invalid")
    assert reason(api.get(calendarId="primary", eventId="nosuch0")) == (404, "notFound")


users = check_supabase()
print("supabase: ok,", len(users), "users")
print("calendar:", check_calendar(users))
with urllib.request.urlopen(f"{env['SIM_CONTROL_URL']}/journal") as answer:
    journal = json.load(answer)
assert all(entry["status"] for entry in journal)
assert "ya29." not in json.dumps(journal)
print("journal:", len(journal), "requests")
