import ClusterConfiguration
import Hummingbird
import JSON
import Testing

import RESTAPI

@Suite("REST conventions")
struct RESTTests {
    private let records = (1...5).map { number in
        JSONValue.fields([
            "uuid": .string("u\(number)"), "name": .string("vol\(number)"), "size": .int(Int64(number) * 10),
            "svm": .fields(["name": .string(number < 3 ? "a" : "b"), "uuid": .string("s")]),
            "_links": .selfLink("/x/u\(number)"),
        ])
    }

    private func call(_ query: [(String, String)], body: JSONValue = .object([])) -> RESTCall {
        RESTCall(
            path: "/x",
            query: query.map { (name: $0.0, value: $0.1) },
            body: body,
            parameters: Parameters()
        )
    }

    private func names(_ query: (String, String)...) throws -> [String] {
        let answer = try RESTCollection.answer(call(query), records, keys: ["name", "uuid"])
        guard case .array(let found)? = answer.body[path: "records"] else { return [] }
        return found.compactMap { $0[path: "name"]?.plain }
    }

    @Test func filters() throws {
        #expect(try names(("svm.name", "a")) == ["vol1", "vol2"])
        #expect(try names(("svm.name", "!a")) == ["vol3", "vol4", "vol5"])
        #expect(try names(("name", "vol2|vol5")) == ["vol2", "vol5"])
        #expect(try names(("name", "*3")) == ["vol3"])
        #expect(try names(("name", "v*l4")) == ["vol4"])
        #expect(try names(("size", ">=40")) == ["vol4", "vol5"])
        #expect(try names(("size", "20..30")) == ["vol2", "vol3"])
        #expect(try names(("size", ">10"), ("svm.name", "a")) == ["vol2"])
        #expect(try names(("order_by", "size desc")).first == "vol5")
    }

    @Test func fieldsAndKeys() throws {
        let plain = try RESTCollection.answer(call([]), records, keys: ["name", "uuid"]).body
        #expect(plain[path: "records.size"] == nil)
        #expect(plain[path: "records._links.self.href"] == .string("/x/u1"))
        let some = try RESTCollection.answer(call([("fields", "svm.{name},size")]), records, keys: ["uuid"]).body
        #expect(some[path: "records.svm"] == .fields(["name": .string("a")]))
        #expect(some[path: "records.name"] == nil)
        let all = try RESTCollection.answer(call([("fields", "*")]), records, keys: ["uuid"]).body
        #expect(all[path: "records"] == .array(records))
    }

    @Test func pagesAreLinked() throws {
        let query = [("max_records", "2"), ("offset", "2"), ("name", "vol*")]
        let page = try RESTCollection.answer(call(query), records, keys: ["name"]).body
        #expect(page[path: "num_records"] == .int(2))
        #expect(page[path: "_links.next.href"] == .string("/x?max_records=2&name=vol*&offset=4"))
        let last = try RESTCollection.answer(call([("offset", "4")]), records, keys: ["name"]).body
        #expect(last[path: "_links.next"] == nil)
        let count = try RESTCollection.answer(call([("return_records", "False")]), records, keys: []).body
        #expect(count[path: "num_records"] == .int(5))
        #expect(count[path: "records"] == nil)
    }

    @Test func unknownFieldsAreNamed() throws {
        let body = try JSONValue(body: [UInt8](#"{"name":"a","nas":{"pth":"/x"}}"#.utf8))
        #expect {
            try call([], body: body).requireFields(among: ["name", "nas.path"])
        } throws: { error in
            (error as? ManagementError)?.target == "nas.pth"
        }
        try call([], body: .object([])).requireFields(among: ["name"])
    }

    @Test func errorsHaveCodeAndRemedy() {
        let body = RESTAnswer.failure(.notFound("volume", "v")).body
        #expect(body[path: "error.code"] == .string("4"))
        #expect(body[path: "error.name"] == .string("volume_not_found"))
        #expect(body[path: "error.remedy"] != nil)
    }

    @Test func jsonIsReadAndWritten() throws {
        let text = #"{"z":[1,-2.5,true,null,{"a":"\u00e9\n\ud83d\ude00\"\\"}],"b":9223372036854775807}"#
        let value = try JSONValue(parsing: [UInt8](text.utf8))
        #expect(try JSONValue(parsing: [UInt8](value.text.utf8)) == value)
        #expect(value[path: "z.a"] == nil)
        #expect(value[path: "b"] == .int(.max))
        for bad in [
            "", "{", "[1,]", "{\"a\" 1}", "\"\\ud800\"", "nul", "1 2", "\"\u{1}\"", String(repeating: "[", count: 100),
        ] {
            #expect(throws: JSONFormatError.self) { try JSONValue(parsing: [UInt8](bad.utf8)) }
        }
    }
}
