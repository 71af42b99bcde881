// Clang 19 in process: one C file held in memory becomes an object, LLVM IR, assembly or PTX, held in memory. Clang's code generation has
// no C interface, so this is the one C++ file of the compiler.
//
// The generated C includes nothing, and Clang gets a file system with nothing in it: reading a header costs more than compiling a small
// kernel. Arithmetic is exact as written: no contraction, no fast-math; an undeclared function is an error.
#include "codegen/backend.h"

#include <clang/Basic/DiagnosticOptions.h>
#include <clang/Basic/FileManager.h>
#include <clang/Basic/SourceManager.h>
#include <clang/CodeGen/CodeGenAction.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/CompilerInvocation.h>
#include <clang/Frontend/FrontendOptions.h>
#include <llvm-c/Target.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/VirtualFileSystem.h>
#include <llvm/Support/raw_ostream.h>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

using namespace clang;

namespace {

std::once_flag targets_ready;

void prepare_targets() {
    std::call_once(targets_ready, [] {
        LLVMInitializeX86TargetInfo(), LLVMInitializeX86Target(), LLVMInitializeX86TargetMC(), LLVMInitializeX86AsmPrinter();
        LLVMInitializeX86AsmParser();
        LLVMInitializeAArch64TargetInfo(), LLVMInitializeAArch64Target(), LLVMInitializeAArch64TargetMC(),
            LLVMInitializeAArch64AsmPrinter();
        LLVMInitializeAArch64AsmParser();
        LLVMInitializeNVPTXTargetInfo(), LLVMInitializeNVPTXTarget(), LLVMInitializeNVPTXTargetMC(), LLVMInitializeNVPTXAsmPrinter();
    });
}

// Hands errors, and the notes that belong to them, to the job's callback. Warnings about generated code are nobody's business.
class Messages : public DiagnosticConsumer {
  public:
    explicit Messages(const BackendCompile &job) : job(job) {}

    void HandleDiagnostic(DiagnosticsEngine::Level level, const Diagnostic &info) override {
        DiagnosticConsumer::HandleDiagnostic(level, info);
        bool error = level >= DiagnosticsEngine::Error;
        if (!error && !(level == DiagnosticsEngine::Note && after_error)) return;
        after_error = true;
        llvm::SmallString<256> text;
        info.FormatDiagnostic(text);
        int line = 0, column = 0;
        if (info.hasSourceManager() && info.getLocation().isValid()) {
            PresumedLoc place = info.getSourceManager().getPresumedLoc(info.getLocation());
            if (place.isValid()) line = int(place.getLine()), column = int(place.getColumn());
        }
        job.message(job.to, error, job.name, line, column, text.c_str());
    }

  private:
    const BackendCompile &job;
    bool after_error = false;
};

std::vector<std::string> arguments(const BackendCompile &job) {
    std::vector<std::string> args = {"-triple",
                                     job.triple,
                                     "-x",
                                     "c",
                                     "-std=gnu11",
                                     "-O" + std::to_string(job.optimization),
                                     "-main-file-name",
                                     job.name,
                                     "-ffp-contract=off",
                                     "-Werror=implicit-function-declaration",
                                     "-nostdsysteminc",
                                     "-nobuiltininc",
                                     "-mframe-pointer=none"};
    if (job.pic)
        args.insert(args.end(), {"-mrelocation-model", "pic", "-pic-level", "2"});
    else
        args.insert(args.end(), {"-mrelocation-model", "static"});
    if (job.optimization >= 2) args.insert(args.end(), {"-vectorize-loops", "-vectorize-slp"});
    if (job.cpu) args.insert(args.end(), {"-target-cpu", job.cpu});
    for (int i = 0; i < job.feature_count; i++) args.insert(args.end(), {"-target-feature", job.features[i]});
    // LLVM halves 512-bit vectors on processors that clocked down under them; the schedules ask for whole ones.
    if (std::strncmp(job.triple, "x86_64", 6) == 0) args.push_back("-mprefer-vector-width=512");
    return args;
}

std::unique_ptr<FrontendAction> action_of(BackendEmit emit) {
    switch (emit) {
    case BACKEND_LLVM_IR: return std::make_unique<EmitLLVMAction>();
    case BACKEND_ASSEMBLY: return std::make_unique<EmitAssemblyAction>();
    default: return std::make_unique<EmitObjAction>();
    }
}

int compile(const BackendCompile *job) {
    prepare_targets();
    Messages messages(*job);
    IntrusiveRefCntPtr<DiagnosticsEngine> engine(
        new DiagnosticsEngine(new DiagnosticIDs, new DiagnosticOptions, &messages, /*ShouldOwnClient=*/false));
    std::vector<std::string> args = arguments(*job);
    std::vector<const char *> pointers;
    for (const std::string &arg : args) pointers.push_back(arg.c_str());
    auto invocation = std::make_shared<CompilerInvocation>();
    if (!CompilerInvocation::CreateFromArgs(*invocation, pointers, *engine)) return 1;
    auto source = llvm::MemoryBuffer::getMemBufferCopy(llvm::StringRef(job->source, job->length), job->name);
    invocation->getFrontendOpts().Inputs = {FrontendInputFile(source->getMemBufferRef(), InputKind(Language::C))};
    invocation->getDiagnosticOpts().ShowCarets = false; // no "2 errors generated." on stderr
    invocation->getFrontendOpts().DisableFree = false;
    invocation->getCodeGenOpts().DisableFree = false;

    CompilerInstance instance;
    instance.setInvocation(invocation);
    instance.createDiagnostics(&messages, /*ShouldOwnClient=*/false);
    instance.setFileManager(new FileManager(FileSystemOptions(), new llvm::vfs::InMemoryFileSystem));
    llvm::SmallString<0> output;
    instance.setOutputStream(std::make_unique<llvm::raw_svector_ostream>(output));
    std::unique_ptr<FrontendAction> action = action_of(job->emit);
    if (!instance.ExecuteAction(*action) || instance.getDiagnostics().hasErrorOccurred()) return 1;
    job->write(job->to, output.data(), output.size());
    return 0;
}

BackendJit *load(const void *object, size_t length, char **error) {
    prepare_targets();
    return orc_load(object, length, error);
}

const Backend backend = {BACKEND_ABI, "clang " LLVM_VERSION_STRING, compile, load, orc_symbol, orc_free};

} // namespace

extern "C" const Backend *tenon_backend(void) { return &backend; }
